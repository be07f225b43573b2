//! Numbers of rows of which most have none.

/// Rows whose numbers are kept together.
pub(super) const CHUNK: usize = 1024;

/// A number for each row; zero where none was set.
#[derive(Debug, Clone, Default)]
pub(super) struct Details(Vec<Option<Box<[u32; CHUNK]>>>);

impl Details {
    #[inline]
    pub fn get(&self, at: usize) -> u32 {
        let chunk = self.0.get(at / CHUNK).and_then(Option::as_ref);
        chunk.map_or(0, |chunk| chunk[at % CHUNK])
    }

    pub fn set(&mut self, at: usize, number: u32) {
        if self.0.len() <= at / CHUNK {
            if number == 0 {
                return;
            }
            self.0.resize(at / CHUNK + 1, None);
        }
        let chunk = &mut self.0[at / CHUNK];
        if number != 0 || chunk.is_some() {
            chunk.get_or_insert_with(|| Box::new([0; CHUNK]))[at % CHUNK] = number;
        }
    }
}
