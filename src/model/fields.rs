//! Named texts that belong to one file: a table's row, a sidecar's entries, a capture's groups.

use std::sync::Arc;

/// Named texts, kept as one text and the places of its parts: a million rows share their names,
/// and have two allocations each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    names: Arc<[Arc<str>]>,
    text: Box<str>,
    /// Where each value lies in the text; none where the name has no value here.
    places: Box<[Option<(u32, u32)>]>,
}

impl Fields {
    /// Takes a value, or none, for each name in turn. What has more values than names loses them;
    /// what has fewer has none for the rest. Values beyond 4 GiB together are none.
    #[must_use]
    pub fn new<'v>(
        names: Arc<[Arc<str>]>,
        values: impl IntoIterator<Item = Option<&'v str>>,
    ) -> Self {
        let mut text = String::new();
        let mut places = Vec::with_capacity(names.len());
        let mut values = values.into_iter();
        for _ in names.iter() {
            let place = values.next().flatten().and_then(|value| {
                let start = u32::try_from(text.len()).ok()?;
                let end = u32::try_from(text.len() + value.len()).ok()?;
                text.push_str(value);
                Some((start, end))
            });
            places.push(place);
        }
        Self {
            names,
            text: text.into(),
            places: places.into(),
        }
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.names.iter().position(|known| &**known == name)?;
        self.value(at)
    }

    /// The names that have a value, with it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let names = self.names.iter().enumerate();
        names.filter_map(|(at, name)| Some((&**name, self.value(at)?)))
    }

    /// All names, with or without a value.
    #[must_use]
    pub fn names(&self) -> &Arc<[Arc<str>]> {
        &self.names
    }

    fn value(&self, at: usize) -> Option<&str> {
        let (start, end) = (*self.places.get(at)?)?;
        self.text
            .get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_own_value_or_none() {
        let names: Arc<[Arc<str>]> = ["a", "b", "c", "d"].map(Arc::from).into();
        let fields = Fields::new(names, [Some("1"), None, Some("")]);
        assert_eq!(fields.get("a"), Some("1"));
        assert_eq!(fields.get("b"), None);
        assert_eq!(fields.get("c"), Some(""));
        assert_eq!(fields.get("d"), None);
        assert_eq!(fields.get("e"), None);
        assert_eq!(fields.iter().collect::<Vec<_>>(), [("a", "1"), ("c", "")]);
    }
}
