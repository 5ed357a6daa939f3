//! HTTP/2 frames by hand, for the scenarios that press: what a connection has to say goes out in one write and what it hears
//! comes in with one read, and a header that was sent once is a byte from then on (RFC 9113, RFC 7541). The generator shares the
//! processor with the server, so what it does not use is the server's.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use prost::Message;
use tokio::net::TcpStream;

use super::wire::text;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const INITIAL_WINDOW_SIZE: u16 = 4;
const WINDOW_MAX: u32 = 0x7fff_ffff;
/// The window every connection and stream begins with.
const WINDOW_DEFAULT: i64 = 65_535;
/// How much is heard before the server may say as much again.
const GIVE_BACK: u32 = 1 << 29;

/// The index of the newest entry of the header table.
const FIRST_DYNAMIC: usize = 62;
/// How large the server's header table is.
const TABLE_MAX: usize = 4_096;
/// What an entry of the table counts beside its name and value.
const ENTRY_OVERHEAD: usize = 32;

/// How much is read at once.
const READ_BYTES: usize = 64 * 1_024;

/// What was heard on a stream.
#[derive(Debug)]
pub(super) enum Heard<'a> {
    /// A piece of its content.
    Data(&'a [u8]),
    /// It has ended.
    End,
}

/// A method with the token of its caller, on one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    path: usize,
    token: usize,
}

/// A header that is sent once in full and then as its place in the server's table.
#[derive(Debug)]
struct Field {
    /// Where its name is in the static table, or else the name.
    name: Result<u8, &'static str>,
    value: String,
    /// How many entries were in the table before it, once it is there.
    place: Option<usize>,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    socket: TcpStream,
    out: Vec<u8>,
    heard: Vec<u8>,
    fields: Vec<Field>,
    entries: usize,
    table_bytes: usize,
    next_stream: u32,
    /// How much may be said on the connection, on a new stream, and on those that stay open.
    window: i64,
    stream_window: i64,
    open: HashMap<u32, i64>,
    not_given_back: u32,
}

impl Wire {
    pub(super) async fn open(address: SocketAddr) -> Result<Self, String> {
        let socket = TcpStream::connect(address).await.map_err(|error| format!("connecting: {error}"))?;
        socket.set_nodelay(true).map_err(text)?;
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut out, 6, SETTINGS, 0, 0);
        out.extend_from_slice(&INITIAL_WINDOW_SIZE.to_be_bytes());
        out.extend_from_slice(&WINDOW_MAX.to_be_bytes());
        frame(&mut out, 4, WINDOW_UPDATE, 0, 0);
        out.extend_from_slice(&(WINDOW_MAX - 65_535).to_be_bytes());
        let mut wire = Self {
            socket,
            out,
            heard: Vec::with_capacity(2 * READ_BYTES),
            fields: Vec::new(),
            entries: 0,
            table_bytes: 0,
            next_stream: 1,
            window: WINDOW_DEFAULT,
            stream_window: WINDOW_DEFAULT,
            open: HashMap::new(),
            not_given_back: 0,
        };
        wire.field(Ok(1), "flaghoist.bench".into());
        wire.field(Ok(31), "application/grpc".into());
        wire.field(Err("te"), "trailers".into());
        // The server's settings, before anything is said that they may forbid.
        wire.flush().await?;
        wire.fill().await?;
        wire.each(|_, _| {})?;
        Ok(wire)
    }

    /// A method with a token; each is told to the server once. As many as its header table holds.
    pub(super) fn named(&mut self, path: &str, token: &str) -> Named {
        let path = self.field(Ok(4), path.to_owned());
        let token = self.field(Ok(23), format!("Bearer {token}"));
        assert!(self.table_bytes <= TABLE_MAX, "the header table of a connection holds no more tokens");
        Named { path, token }
    }

    fn field(&mut self, name: Result<u8, &'static str>, value: String) -> usize {
        if let Some(known) = self.fields.iter().position(|field| field.name == name && field.value == value) {
            return known;
        }
        // The longest name of the static table that is used.
        self.table_bytes += name.map_or_else(str::len, |_| "authorization".len()) + value.len() + ENTRY_OVERHEAD;
        self.fields.push(Field { name, value, place: None });
        self.fields.len() - 1
    }

    /// Whether a call with so many bytes may go out now.
    pub(super) fn may_call(&self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        bytes <= self.window && bytes <= self.stream_window
    }

    /// Says a call, which is all that is said on its stream. Answers the stream.
    pub(super) fn call(&mut self, method: Named, message: &[u8]) -> u32 {
        let stream = self.headers(method);
        self.content(stream, message, END_STREAM);
        stream
    }

    /// Says the first message of a stream that stays open. Answers the stream.
    pub(super) fn begin(&mut self, method: Named, message: &impl Message) -> u32 {
        let stream = self.headers(method);
        self.open.insert(stream, self.stream_window);
        self.say(stream, message);
        stream
    }

    /// Says another message on a stream, unless the server does not want more now.
    pub(super) fn say(&mut self, stream: u32, message: &impl Message) -> bool {
        let message = super::wire::frame(message);
        let length = i64::try_from(message.len()).unwrap_or(i64::MAX);
        let Some(left) = self.open.get_mut(&stream).filter(|left| **left >= length) else { return false };
        if self.window < length {
            return false;
        }
        *left -= length;
        self.content(stream, &message, 0);
        true
    }

    fn headers(&mut self, method: Named) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let at = self.out.len();
        frame(&mut self.out, 0, HEADERS, END_HEADERS, stream);
        // POST, http
        self.out.extend_from_slice(&[0x83, 0x86]);
        for number in [method.path, 0, 1, 2, method.token] {
            let field = &mut self.fields[number];
            if let Some(place) = field.place {
                let index = FIRST_DYNAMIC + self.entries - 1 - place;
                self.out.push(0x80 | u8::try_from(index).expect("few entries"));
                continue;
            }
            match field.name {
                Ok(index) => self.out.push(0x40 | index),
                Err(name) => {
                    self.out.push(0x40);
                    string(&mut self.out, name);
                }
            }
            string(&mut self.out, &field.value);
            field.place = Some(self.entries);
            self.entries += 1;
        }
        let length = u32::try_from(self.out.len() - at - 9).expect("few headers");
        self.out[at..at + 3].copy_from_slice(&length.to_be_bytes()[1..]);
        stream
    }

    fn content(&mut self, stream: u32, message: &[u8], flags: u8) {
        frame(&mut self.out, message.len(), DATA, flags, stream);
        self.out.extend_from_slice(message);
        self.window -= i64::try_from(message.len()).unwrap_or(i64::MAX);
    }

    /// Writes what is to be said.
    pub(super) async fn flush(&mut self) -> Result<(), String> {
        let mut from = 0;
        while from < self.out.len() {
            match self.socket.try_write(&self.out[from..]) {
                Ok(written) => from += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.writable().await.map_err(text)?;
                }
                Err(error) => return Err(text(error)),
            }
        }
        self.out.clear();
        Ok(())
    }

    /// Waits until something was heard. May be given up without loss.
    pub(super) async fn fill(&mut self) -> Result<(), String> {
        loop {
            self.socket.readable().await.map_err(text)?;
            self.heard.reserve(READ_BYTES);
            match self.socket.try_read_buf(&mut self.heard) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(text(error)),
            }
        }
    }

    /// Tells what was heard, and prepares what the protocol wants to be answered.
    pub(super) fn each(&mut self, mut tell: impl FnMut(u32, Heard<'_>)) -> Result<(), String> {
        let heard = std::mem::take(&mut self.heard);
        let mut rest = heard.as_slice();
        while let Some((head, after)) = rest.split_at_checked(9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & WINDOW_MAX;
            let Some((content, after)) = after.split_at_checked(length as usize) else { break };
            rest = after;
            let (kind, flags) = (head[3], head[4]);
            match kind {
                DATA => {
                    self.not_given_back += length;
                    tell(stream, Heard::Data(content));
                }
                SETTINGS if flags & ACK == 0 => self.settings(content),
                PING if flags & ACK == 0 => {
                    frame(&mut self.out, content.len(), PING, ACK, 0);
                    self.out.extend_from_slice(content);
                }
                WINDOW_UPDATE => {
                    let more = i64::from(content.try_into().map_or(0, u32::from_be_bytes));
                    match (stream, self.open.get_mut(&stream)) {
                        (0, _) => self.window += more,
                        (_, Some(window)) => *window += more,
                        (_, None) => {}
                    }
                }
                GOAWAY => return Err("the server wants no more on this connection".into()),
                _ => {}
            }
            if kind == RST_STREAM || (matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0) {
                self.open.remove(&stream);
                tell(stream, Heard::End);
            }
        }
        let left = rest.len();
        let mut heard = heard;
        let from = heard.len() - left;
        heard.drain(..from);
        self.heard = heard;
        if self.not_given_back > GIVE_BACK {
            frame(&mut self.out, 4, WINDOW_UPDATE, 0, 0);
            self.out.extend_from_slice(&self.not_given_back.to_be_bytes());
            self.not_given_back = 0;
        }
        Ok(())
    }

    fn settings(&mut self, content: &[u8]) {
        for setting in content.chunks_exact(6) {
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            if u16::from_be_bytes([setting[0], setting[1]]) == INITIAL_WINDOW_SIZE {
                self.stream_window = value.into();
            }
        }
        frame(&mut self.out, 0, SETTINGS, ACK, 0);
    }
}

/// The head of a frame.
fn frame(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let length = u32::try_from(length).expect("frames are small").to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// A text of the header table, uncompressed (RFC 7541, section 5.2).
fn string(out: &mut Vec<u8>, value: &str) {
    let length = value.len();
    if length < 127 {
        out.push(u8::try_from(length).expect("less than 127"));
    } else {
        out.push(127);
        let mut rest = length - 127;
        while rest >= 128 {
            out.push(u8::try_from(rest % 128).expect("less than 128") | 0x80);
            rest /= 128;
        }
        out.push(u8::try_from(rest).expect("less than 128"));
    }
    out.extend_from_slice(value.as_bytes());
}
