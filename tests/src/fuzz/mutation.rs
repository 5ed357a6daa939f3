//! Random changes of bytes, the kinds that find most.

use rand::Rng;

/// Values at the edges of what length fields can say.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'%', b'.', b'/'];

/// A changed copy of `input`, at most `length_max` long.
pub(super) fn mutate(random: &mut impl Rng, input: &[u8], length_max: usize) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.random_range(1..6) {
        let place = random.random_range(0..=bytes.len());
        match random.random_range(0..8) {
            0 if place < bytes.len() => bytes[place] ^= 1 << random.random_range(0..8),
            1 if place < bytes.len() => bytes[place] = EDGES[random.random_range(0..EDGES.len())],
            2 if place < bytes.len() => bytes[place] = random.random(),
            3 => bytes.insert(place, random.random()),
            4 if place < bytes.len() => drop(bytes.remove(place)),
            5 => bytes.truncate(place),
            6 if place < bytes.len() => {
                // A part comes twice.
                let end = random.random_range(place..bytes.len());
                let part = bytes[place..=end].to_vec();
                bytes.splice(place..place, part);
            }
            _ => {
                let text = ["\0", "é", "🦆", "..", "%00", "&&", "==", "e30", "AAAA", "-1", "9223372036854775808"];
                let text = text[random.random_range(0..text.len())];
                bytes.splice(place..place, text.bytes());
            }
        }
    }
    bytes.truncate(length_max);
    bytes
}

/// The same for text: what is no UTF-8 becomes so.
pub(super) fn mutate_text(random: &mut impl Rng, input: &str, length_max: usize) -> String {
    String::from_utf8_lossy(&mutate(random, input.as_bytes(), length_max)).into_owned()
}
