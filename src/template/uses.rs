//! What a template names, for those who must know beforehand.

use std::ops::Range;
use std::sync::Arc;

use super::moved_range;
use super::names::{Group, Reference};
use crate::model::looks_secret;

/// What a template names, of what is not always there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uses {
    /// The columns of `row`.
    pub row: Named,
    /// The `vars`.
    pub vars: Named,
    /// The entries of `sidecar`.
    pub sidecar: Named,
    /// The first environment variable whose name says that it is a secret.
    pub secret: Option<String>,
}

/// What a template names of one group, with the places in the template's text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// Each name where it stands.
    pub names: Vec<(String, Range<usize>)>,
    /// The first place where the group itself is used, and so perhaps any of its names.
    pub whole: Option<Range<usize>>,
}

impl Named {
    /// Whether anything of the group is used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.whole.is_none()
    }
}

/// What most templates use.
pub(super) static NO_USES: Uses = Uses {
    row: Named::NONE,
    vars: Named::NONE,
    sidecar: Named::NONE,
    secret: None,
};

impl Named {
    const NONE: Self = Self {
        names: Vec::new(),
        whole: None,
    };
}

impl Uses {
    /// Adds what an expression names that stands at a place of the template's text.
    pub(super) fn extend(&mut self, references: &[Reference], at: usize) {
        for reference in references {
            let named = match reference.group {
                Group::Row => &mut self.row,
                Group::Vars => &mut self.vars,
                Group::Sidecar => &mut self.sidecar,
                Group::Env => {
                    if self.secret.is_none() && looks_secret(&reference.key) {
                        self.secret = Some(reference.key.to_string());
                    }
                    continue;
                }
                _ => continue,
            };
            let range = moved_range(&reference.range, at);
            if reference.is_whole() {
                named.whole.get_or_insert(range);
            } else {
                named.names.push((reference.key.to_string(), range));
            }
        }
    }

    /// As it is kept: a hundred thousand rules use nothing.
    pub(super) fn kept(self) -> Option<Arc<Self>> {
        (self != NO_USES).then(|| Arc::new(self))
    }
}
