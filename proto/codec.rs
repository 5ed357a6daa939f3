//! How messages become bytes: prost, with buffers that fit chat messages.
//!
//! tonic keeps two buffers for as long as a stream lives, 8 KiB each by default. Ten thousand streams that say nothing would
//! hold 160 MB of them; here they start small and grow with what is really said.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// The first size of a buffer in bytes: most requests and answers fit in.
const BUFFER_BYTES: usize = 512;

/// How much of a stream is encoded before it is written, in bytes.
const YIELD_BYTES: usize = 32 * 1024;

/// The codec of all generated clients and servers.
#[derive(Clone, Debug)]
pub struct SmallBuffers<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallBuffers<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
