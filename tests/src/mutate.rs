//! What an attacker, or a failing disk, does to a file.

use crate::random::Random;

/// Changes `bytes` somewhere before `end`: a bit, a byte, a number, what follows, or the length.
///
/// `special` are the bytes that mean something in the format, or nearly do.
pub fn mutate(bytes: &mut Vec<u8>, end: usize, special: &[u8], random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    let position = random.below(bytes.len().min(end));
    match random.below(6) {
        0 => bytes[position] ^= 1 << random.below(8),
        1 => bytes[position] = random.bits() as u8,
        2 => bytes[position] = special[random.below(special.len())],
        3 => bytes.truncate(position),
        4 => {
            let number = [0, 1, 63, 64, u64::MAX, 1 << 62, 1 << 40, random.bits()];
            let number = number[random.below(8)].to_le_bytes();
            let end = bytes.len().min(position + 8);
            bytes[position..end].copy_from_slice(&number[..end - position]);
        }
        _ => {
            let from = random.below(bytes.len());
            let len = random.below(64).min(bytes.len() - position.max(from));
            bytes.copy_within(from..from + len, position);
        }
    }
}
