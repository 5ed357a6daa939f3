//! Codes that people copy by hand: letters and digits that are hard to mistake for one another (Crockford's base 32), in groups.

/// The letters, five bits each.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Writes the highest bits of `bytes` as so many letters, 26 at most, with a hyphen after each `group` of them.
pub(crate) fn write(bytes: [u8; 16], letters: usize, group: usize) -> String {
    let bits = u128::from_be_bytes(bytes);
    let mut code = String::with_capacity(letters + letters / group);
    for index in 0..letters {
        if index > 0 && index % group == 0 {
            code.push('-');
        }
        let shift = 5 * index;
        // The last letter of 26 has only three bits left.
        let five = if shift + 5 <= 128 { bits >> (123 - shift) } else { bits << 2 } & 31;
        code.push(char::from(ALPHABET[usize::try_from(five).unwrap_or_default()]));
    }
    code
}

/// Reads a code of so many letters as typed: in any case, with or without hyphens and spaces, with letters mistaken for digits. The
/// answer has no hyphens.
pub(crate) fn read(typed: &str, letters: usize) -> Option<String> {
    let mut code = String::with_capacity(letters);
    for letter in typed.chars().filter(|letter| !matches!(letter, '-' | ' ')) {
        let letter = match letter.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            other => other,
        };
        if code.len() == letters || !letter.is_ascii() || !ALPHABET.contains(&(letter as u8)) {
            return None;
        }
        code.push(letter);
    }
    (code.len() == letters).then_some(code)
}
