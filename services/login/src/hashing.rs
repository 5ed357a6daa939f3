//! Password hashes: argon2id in PHC form, made and checked on the threads of a [`Pool`].

pub(crate) mod pool;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::password::Password;
pub(crate) use pool::{Full, Place, Pool, Stopped};

const SALT_BYTES: usize = 16;
const OUTPUT_BYTES: usize = 32;
/// The costliest hash of the store that is still checked, in KiB; a row cannot ask for all memory.
const STORED_MEMORY_MAX_KIB: u32 = 1024 * 1024;

/// How costly a hash is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes; they are computed one after another.
    pub lanes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

impl Cost {
    fn params(self) -> Result<Params, HashError> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(OUTPUT_BYTES)).map_err(HashError::Parameters)
    }

    /// Whether it is below `other` in any respect.
    fn below(self, other: Self) -> bool {
        self.memory_kib < other.memory_kib || self.passes < other.passes || self.lanes < other.lanes
    }
}

/// A hash could not be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HashError {
    /// The parameters are outside of what argon2 knows.
    #[error("parameters of the password hash: {0}")]
    Parameters(argon2::Error),
    /// What the store holds is no argon2id hash.
    #[error("the stored password hash cannot be read: {0}")]
    Stored(&'static str),
    /// The algorithm failed.
    #[error("hashing a password: {0}")]
    Algorithm(argon2::Error),
}

/// What checking a password gave.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Whether it is the password.
    pub(crate) matches: bool,
    /// The hash to keep from now on, when it matches and the stored one is cheaper than today's.
    pub(crate) renewed: Option<String>,
}

/// Makes and checks hashes in memory that it keeps. Each thread of the pool has one.
#[derive(Debug)]
pub(crate) struct Hasher {
    cost: Cost,
    params: Params,
    memory: Vec<Block>,
    used: bool,
}

impl Hasher {
    pub(crate) fn new(cost: Cost) -> Result<Self, HashError> {
        let params = cost.params()?;
        let memory = vec![Block::new(); params.block_count()];
        Ok(Self { cost, params, memory, used: false })
    }

    /// The hash of `password` with a new salt, in PHC form.
    pub(crate) fn hash(&mut self, password: &Password) -> Result<String, HashError> {
        let salt: [u8; SALT_BYTES] = rand::random();
        let output = self.output(self.params.clone(), password, &salt)?;
        phc(&self.params, &salt, &*output)
    }

    /// Whether `password` is the one that `stored` was made of; if `renew`, a new hash where today's cost is higher.
    pub(crate) fn verify(&mut self, password: &Password, stored: &str, renew: bool) -> Result<Verdict, HashError> {
        let stored = PasswordHash::new(stored).map_err(|_| HashError::Stored("no PHC string"))?;
        if stored.algorithm != ARGON2ID_IDENT || stored.version != Some(Version::V0x13.into()) {
            return Err(HashError::Stored("not argon2id version 19"));
        }
        let (Some(salt), Some(expected)) = (&stored.salt, &stored.hash) else {
            return Err(HashError::Stored("salt or hash is missing"));
        };
        let params = Params::try_from(&stored).map_err(|_| HashError::Stored("unknown parameters"))?;
        if params.m_cost() > STORED_MEMORY_MAX_KIB || expected.len() != OUTPUT_BYTES {
            return Err(HashError::Stored("parameters out of bounds"));
        }
        let cost = Cost { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() };
        let output = self.output(params, password, salt)?;
        let matches = bool::from(output.as_slice().ct_eq(expected.as_bytes()));
        let renewed = if renew && matches && cost.below(self.cost) { Some(self.hash(password)?) } else { None };
        Ok(Verdict { matches, renewed })
    }

    /// A hash that no password has, of today's cost: what is checked when there is no account, so that the time tells
    /// nothing.
    pub(crate) fn nobodys(cost: Cost) -> Result<String, HashError> {
        let (salt, output): ([u8; SALT_BYTES], [u8; OUTPUT_BYTES]) = (rand::random(), rand::random());
        phc(&cost.params()?, &salt, &output)
    }

    /// Wipes what the last hashes left in memory.
    pub(crate) fn wipe(&mut self) {
        if std::mem::take(&mut self.used) {
            self.memory.fill(Block::new());
        }
    }

    fn output(
        &mut self,
        params: Params,
        password: &Password,
        salt: &[u8],
    ) -> Result<Zeroizing<[u8; OUTPUT_BYTES]>, HashError> {
        let blocks = params.block_count();
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut output = Zeroizing::new([0; OUTPUT_BYTES]);
        // Only a hash from a time of higher cost needs more than what is kept.
        let mut larger = if blocks > self.memory.len() { vec![Block::new(); blocks] } else { Vec::new() };
        let memory = if larger.is_empty() { &mut self.memory } else { &mut larger };
        self.used = true;
        argon2
            .hash_password_into_with_memory(password.bytes(), salt, &mut *output, memory.as_mut_slice())
            .map_err(HashError::Algorithm)?;
        Ok(output)
    }
}

fn phc(params: &Params, salt: &[u8], output: &[u8]) -> Result<String, HashError> {
    const UNWRITABLE: HashError = HashError::Stored("cannot be written");
    Ok(PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).map_err(|_| UNWRITABLE)?,
        salt: Some(Salt::new(salt).map_err(|_| UNWRITABLE)?),
        hash: Some(Output::new(output).map_err(|_| UNWRITABLE)?),
    }
    .to_string())
}

#[cfg(test)]
mod tests;
