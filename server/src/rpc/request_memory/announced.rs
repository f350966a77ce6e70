//! How long the messages of a body say that they are, before they come.

/// Reads the heads of a body's messages as it passes.
#[derive(Debug, Default)]
pub(super) struct Announced {
    head: [u8; HEAD],
    /// Bytes of the head that have come.
    read: usize,
    /// Bytes of the message that are still to come.
    left: usize,
}

/// What stands before each message: a flag, and its length.
const HEAD: usize = 5;

impl Announced {
    /// Passes `data`; gives the length of the last message that begins in it.
    pub(super) fn pass(&mut self, mut data: &[u8]) -> Option<usize> {
        let mut last = None;
        while !data.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(data.len());
                self.left -= passed;
                data = &data[passed..];
                continue;
            }
            let read = (HEAD - self.read).min(data.len());
            self.head[self.read..self.read + read].copy_from_slice(&data[..read]);
            self.read += read;
            data = &data[read..];
            if self.read == HEAD {
                let [_, length @ ..] = self.head;
                self.read = 0;
                self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                last = Some(self.left);
            }
        }
        last
    }

    /// Whether a message has begun and not ended.
    pub(super) fn in_message(&self) -> bool {
        self.read > 0 || self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_announced_however_they_come_apart() {
        let body = [0, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 9];
        for step in 1..=body.len() {
            let mut announced = Announced::default();
            let mut last = None;
            for data in body.chunks(step) {
                last = announced.pass(data).or(last);
            }
            assert_eq!(last, Some(256), "{step}");
            assert!(announced.in_message());
            announced.pass(&[0; 255]);
            assert!(!announced.in_message());
        }
    }
}
