//! How sled writes numbers and byte strings.

use crate::bytes::{Cursor, Malformed};

/// A number of one to nine bytes: up to 240 as it is, in two or three bytes up to 67,823, above that little-endian behind
/// its length.
pub(super) fn number(cursor: &mut Cursor<'_>) -> Result<u64, Malformed> {
    match cursor.u8()? {
        small @ 0..=240 => Ok(u64::from(small)),
        high @ 241..=248 => Ok(240 + 256 * (u64::from(high) - 241) + u64::from(cursor.u8()?)),
        249 => Ok(2_288 + 256 * u64::from(cursor.u8()?) + u64::from(cursor.u8()?)),
        long => {
            let mut bytes = [0; 8];
            let length = usize::from(long) - 247;
            bytes[..length].copy_from_slice(cursor.take(length)?);
            Ok(u64::from_le_bytes(bytes))
        }
    }
}

/// Bytes behind their length.
pub(super) fn bytes<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Malformed> {
    let length = number(cursor)?;
    cursor.take(usize::try_from(length).map_err(|_| Malformed::new(format!("{length} bytes are too many")))?)
}

/// A place in the log of pages, which is never negative.
pub(super) fn lsn(cursor: &mut Cursor<'_>) -> Result<u64, Malformed> {
    let lsn = i64::from_le_bytes(cursor.array()?);
    u64::try_from(lsn).map_err(|_| Malformed::new(format!("{lsn} is no place in the log of pages")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_sled_writes_them() {
        for (written, meant) in [
            (&[240][..], 240),
            (&[241, 0], 240),
            (&[248, 255], 2_287),
            (&[249, 0, 0], 2_288),
            (&[249, 255, 255], 67_823),
            (&[250, 0xF0, 0x08, 0x01], 67_824),
            (&[255, 1, 2, 3, 4, 5, 6, 7, 8], 0x0807_0605_0403_0201),
        ] {
            let mut cursor = Cursor::new(written);
            assert_eq!(number(&mut cursor), Ok(meant));
            assert_eq!(cursor.end(), Ok(()));
        }
        assert!(number(&mut Cursor::new(&[255, 1])).is_err());
        assert!(bytes(&mut Cursor::new(&[3, 1, 2])).is_err());
    }
}
