//! Which files of a version a run opened.

/// The highest ordinal of a file that is tracked: 1 MiB of bits for each run and version.
const MAX_ORDINAL: u64 = 1 << 23;

/// The files of a version that were opened, each counted once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenedFiles {
    /// How many files.
    pub files: u64,
    /// The sum of their sizes.
    pub bytes: u64,
    words: Vec<u64>,
}

impl OpenedFiles {
    /// Adds a file by its ordinal in the version. Beyond a very high ordinal, every open counts.
    pub fn add(&mut self, ordinal: u64, bytes: u64) {
        if ordinal < MAX_ORDINAL {
            let (word, bit) = ((ordinal / 64) as usize, 1 << (ordinal % 64));
            if self.words.len() <= word {
                self.words.resize(word + 1, 0);
            }
            if self.words[word] & bit != 0 {
                return;
            }
            self.words[word] |= bit;
        }
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Restores it from its stored parts.
    pub fn from_parts(files: u64, bytes: u64, words: &[u8]) -> Self {
        let words = words.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        Self { files, bytes, words }
    }

    /// Returns a bit for each file, as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_once_and_so_it_does_after_a_restart() {
        let mut opened = OpenedFiles::default();
        for ordinal in [0, 63, 64, 1000, 64, 0] {
            opened.add(ordinal, 10);
        }
        assert_eq!((opened.files, opened.bytes), (4, 40));
        let mut again = OpenedFiles::from_parts(opened.files, opened.bytes, &opened.to_bytes());
        assert_eq!(again, opened);
        again.add(1000, 10);
        assert_eq!(again, opened);
        again.add(MAX_ORDINAL, 1);
        again.add(MAX_ORDINAL, 1);
        assert_eq!((again.files, again.bytes), (6, 42), "beyond the limit each open counts");
    }
}
