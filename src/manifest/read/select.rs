//! Which files a rule takes beside what its patterns say.

use std::collections::HashSet;

use super::Reader;
use crate::diagnostic::Diagnostic;
use crate::manifest::{FilesFrom, FollowSymlinks, Select, keys};
use crate::model::{RelativePath, shown_bounded, size};
use crate::yaml::{Entry, Value};

/// Whether wildcards match names with a leading dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hidden {
    /// Only a pattern that spells the dot does.
    Named,
    /// They do.
    Matched,
}

impl Reader<'_> {
    pub(super) fn select<'n>(
        &mut self,
        field: &impl Fn(&str) -> Option<&'n Entry>,
    ) -> (Select, Hidden) {
        let when = field("when").and_then(|entry| {
            let text = self.text(entry)?;
            self.condition(&entry.value, text)
        });
        let min_age = field("min_age").and_then(|entry| self.duration(entry, "2m"));
        let min_size = field("min_size").and_then(|entry| self.size(entry));
        let max_size = field("max_size").and_then(|entry| self.size(entry));
        if let (Some(min), Some(max), Some(entry)) = (min_size, max_size, field("max_size"))
            && min > max
        {
            self.report(
                Diagnostic::error(
                    "`min_size` is more than `max_size`: no file has such a size",
                    entry.value.span.clone(),
                )
                .help("exchange them, or leave one out"),
            );
        }
        let max_depth = field("max_depth").and_then(|entry| self.count(entry, keys::RULE));
        let files_from = field("files_from").and_then(|entry| self.files_from(entry));
        let follow_symlinks = field("follow_symlinks").and_then(|entry| {
            let choices = [FollowSymlinks::Never, FollowSymlinks::WithinRoot];
            self.word(entry, keys::RULE, &choices)
        });
        let hidden = match field("hidden").and_then(|entry| self.flag(entry)) {
            Some(true) => Hidden::Matched,
            _ => Hidden::Named,
        };
        let select = Select {
            when,
            min_age,
            min_size,
            max_size,
            max_depth: max_depth.and_then(|depth| usize::try_from(depth.get()).ok()),
            files_from,
            follow_symlinks: follow_symlinks.unwrap_or_default(),
        };
        (select, hidden)
    }

    fn size(&mut self, entry: &Entry) -> Option<u64> {
        let text = self.text(entry)?;
        self.parsed(entry, size(text))
    }

    fn files_from(&mut self, entry: &Entry) -> Option<FilesFrom> {
        let items = match &entry.value.value {
            Value::Scalar(text, _) if !text.is_empty() => {
                let path = self.folder.join(text);
                return Some(FilesFrom::File(path, entry.value.span.clone()));
            }
            Value::List(items) if !items.is_empty() => items,
            _ => {
                self.expected(
                    "the path of a list, or a list of paths",
                    &entry.value,
                    &entry.key_span,
                );
                return None;
            }
        };
        let mut paths = Vec::new();
        let mut seen = HashSet::new();
        for item in items {
            let Value::Scalar(text, _) = &item.value else {
                self.expected("a path", item, &entry.key_span);
                continue;
            };
            match RelativePath::parse(text) {
                Ok(path) if seen.insert(path.clone()) => paths.push((path, item.span.clone())),
                Ok(_) => self.report(Diagnostic::error(
                    format!("`{}` is listed twice", shown_bounded(text)),
                    item.span.clone(),
                )),
                Err(why) => self.report(
                    Diagnostic::error(why, item.span.clone())
                        .help("paths are relative to `root`, as in `2024/a.pdf`"),
                ),
            }
        }
        Some(FilesFrom::Here(paths))
    }
}
