//! The latest few readers of one thing, the last used last.

/// At most `MAX` items; a new one pushes out the one that was not used for longest.
#[derive(Debug)]
pub(super) struct Recent<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Default for Recent<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> Recent<T, MAX> {
    /// Takes out the last used of those that fit.
    pub fn take(&mut self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let at = self.0.iter().rposition(fits)?;
        Some(self.0.remove(at))
    }

    /// Takes out the last used.
    pub fn take_last(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Puts one in as the last used.
    pub fn push(&mut self, item: T) {
        if self.0.len() == MAX {
            self.0.remove(0);
        }
        self.0.push(item);
    }

    /// Finds the last used of those that fit; it keeps its place.
    pub fn find(&mut self, fits: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.0.iter_mut().rfind(|item| fits(item))
    }

    #[cfg(test)]
    pub fn items(&self) -> &[T] {
        &self.0
    }
}
