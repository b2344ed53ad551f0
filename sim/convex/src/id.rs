//! Document ids: 32 characters of `[0-9a-z]` that carry their table, as Convex's do.

use std::fmt;

use rand::RngCore;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters for the table's number, for the random part, and for the checksum.
const TABLE: usize = 3;
const CHECKSUM_AT: usize = 29;
const LENGTH: usize = 32;
/// Ids of the same table begin alike but not with the table's plain number, so that nobody reads it from there.
const SCRAMBLE: u16 = 0x5a3c & 0x7fff;

/// The number of a table inside a deployment.
pub type TableNumber = u16;
/// The number of the table that deployments have besides their own ones: what is scheduled.
pub const SYSTEM_TABLE: TableNumber = 0;

/// The id of a document.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id([u8; LENGTH]);

impl Id {
    /// Draws a new id for a table.
    pub fn draw(table: TableNumber, random: &mut impl RngCore) -> Self {
        let mut id = [0; LENGTH];
        let scrambled = table ^ SCRAMBLE;
        for (at, byte) in id[..TABLE].iter_mut().enumerate() {
            *byte = ALPHABET[usize::from(scrambled >> (5 * (TABLE - 1 - at))) & 31];
        }
        for byte in &mut id[TABLE..CHECKSUM_AT] {
            *byte = ALPHABET[random.next_u32() as usize & 31];
        }
        let sum = checksum(&id[..CHECKSUM_AT]);
        id[CHECKSUM_AT..].copy_from_slice(&sum);
        Self(id)
    }

    /// Reads an id; `None` if the text is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let id: [u8; LENGTH] = text.as_bytes().try_into().ok()?;
        (checksum(&id[..CHECKSUM_AT]) == id[CHECKSUM_AT..])
            .then_some(Self(id))
            .filter(|id| id.table().is_some())
    }

    fn table(&self) -> Option<TableNumber> {
        let digits = self.0[..TABLE].iter().map(|byte| ALPHABET.iter().position(|letter| letter == byte));
        let scrambled = digits.into_iter().try_fold(0u16, |sum, digit| Some(sum << 5 | digit? as u16))?;
        Some(scrambled ^ SCRAMBLE)
    }

    /// The table that the id belongs to.
    pub fn table_number(&self) -> TableNumber {
        self.table().expect("every id is drawn or parsed, and both checked its table")
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an id is ASCII")
    }
}

fn checksum(bytes: &[u8]) -> [u8; LENGTH - CHECKSUM_AT] {
    let sum = bytes.iter().fold(0x1505u32, |sum, byte| sum.wrapping_mul(33) ^ u32::from(*byte));
    [0, 5, 10].map(|shift| ALPHABET[(sum >> shift) as usize & 31])
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn an_id_carries_its_table_and_survives_text() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for table in [0, 1, 31, 32, 1_000, 32_767] {
            let id = Id::draw(table, &mut random);
            assert_eq!(id.table_number(), table);
            assert_eq!(Id::parse(id.as_str()), Some(id));
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        let id = Id::draw(7, &mut ChaCha8Rng::seed_from_u64(1)).to_string();
        let changed = format!("{}{}", &id[..10], id[10..].chars().rev().collect::<String>());
        for text in ["", "short", &changed, &id.to_uppercase(), &id[1..]] {
            assert_eq!(Id::parse(text), None, "{text}");
        }
    }
}
