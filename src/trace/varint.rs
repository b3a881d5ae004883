//! Numbers of variable length: LEB128, and zigzag for signed ones.

/// Why the bytes of a payload are none of ours.
pub(super) type What = &'static str;

pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, (value << 1 ^ value >> 63) as u64);
}

/// A place in a payload.
pub(super) struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Cursor<'a> {
    pub fn number(&mut self) -> Result<u64, What> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or("a number ends early")?;
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err("a number is out of range");
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number is out of range")
    }

    pub fn signed(&mut self) -> Result<i64, What> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A number that fits `T`.
    pub fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, What> {
        self.number()?.try_into().map_err(|_| "a number is out of range")
    }

    /// A number as its difference from `last`, which it replaces.
    pub fn delta(&mut self, last: &mut u32) -> Result<u32, What> {
        let value = i64::from(*last).checked_add(self.signed()?);
        *last = value.and_then(|value| value.try_into().ok()).ok_or("a number is out of range")?;
        Ok(*last)
    }

    pub fn slice(&mut self, len: usize) -> Result<&'a [u8], What> {
        let slice = self.bytes[self.at..].get(..len).ok_or("a text ends early")?;
        self.at += len;
        Ok(slice)
    }
}
