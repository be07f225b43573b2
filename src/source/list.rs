//! A bounded look at a folder that no manifest speaks of yet.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::Path;

/// What a look at a folder found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Regular files, as paths below the folder with `/`, in the order of their bytes; and their
    /// sizes.
    pub files: Vec<(String, u64)>,
    /// Folders that were left out, as paths below the folder.
    pub left_out: Vec<String>,
    /// What is no regular file, or cannot be looked at, or has a name that is not UTF-8.
    pub unusable: usize,
    /// Whether there is a `.roeignore` file.
    pub hides: bool,
    /// Whether there was more than was looked at.
    pub cut: bool,
}

/// Looks at a folder and at those below it, the nearest first, until so many entries were seen.
/// What begins with a dot is passed over; of any other folder `is_left_out` is asked, with its
/// path and the names beside it. Links are not followed.
///
/// # Errors
///
/// Whatever the operating system says of the folder itself. One below it that cannot be read
/// counts as unusable.
pub fn list(
    root: &Path,
    entries_max: usize,
    is_left_out: impl Fn(&str, &[String]) -> bool,
) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut left = entries_max;
    let mut open = VecDeque::from([String::new()]);
    while let Some(folder) = open.pop_front() {
        if left == 0 {
            listing.cut = true;
            break;
        }
        let entries = match fs::read_dir(root.join(&folder)) {
            Ok(entries) => entries,
            Err(error) if folder.is_empty() => return Err(error),
            Err(_) => {
                listing.unusable += 1;
                continue;
            }
        };
        let mut folders = Vec::new();
        let mut names = Vec::new();
        for entry in entries {
            if left == 0 {
                listing.cut = true;
                break;
            }
            left -= 1;
            let Ok(entry) = entry else {
                listing.unusable += 1;
                continue;
            };
            let Ok(name) = entry.file_name().into_string() else {
                listing.unusable += 1;
                continue;
            };
            if name.starts_with('.') {
                listing.hides |= name == ".roeignore";
                continue;
            }
            names.push(name.clone());
            let path = below(&folder, &name);
            match entry.metadata() {
                Ok(found) if found.is_file() => listing.files.push((path, found.len())),
                Ok(found) if found.is_dir() => folders.push(name),
                _ => listing.unusable += 1,
            }
        }
        folders.sort();
        for name in folders {
            let path = below(&folder, &name);
            if is_left_out(&path, &names) {
                listing.left_out.push(path);
            } else {
                open.push_back(path);
            }
        }
    }
    listing.files.sort();
    listing.left_out.sort();
    Ok(listing)
}

fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, file).expect("a file");
        }
        folder
    }

    fn paths(listing: &Listing) -> Vec<&str> {
        listing
            .files
            .iter()
            .map(|(path, _)| path.as_str())
            .collect()
    }

    #[test]
    fn files_are_listed_with_their_sizes_and_dots_are_passed_over() {
        let folder = tree(&["b/c/d.txt", "b/a.txt", "a.txt", ".hidden", ".git/config"]);
        let listing = list(folder.path(), 100, |_, _| false).expect("listed");
        let expected = [("a.txt", 5), ("b/a.txt", 7), ("b/c/d.txt", 9)];
        let expected = expected.map(|(path, size)| (path.to_owned(), size));
        assert_eq!(listing.files, expected);
        assert!(!listing.cut);
        assert_eq!(listing.unusable, 0);
    }

    #[test]
    fn a_folder_is_left_out_by_its_path_and_what_lies_beside_it() {
        let folder = tree(&["code/Cargo.toml", "code/target/x", "data/target/x"]);
        let is_build = |path: &str, beside: &[String]| {
            path.ends_with("target") && beside.iter().any(|name| name == "Cargo.toml")
        };
        let listing = list(folder.path(), 100, is_build).expect("listed");
        assert_eq!(paths(&listing), ["code/Cargo.toml", "data/target/x"]);
        assert_eq!(listing.left_out, ["code/target"]);
    }

    #[test]
    fn a_look_ends_after_so_many_entries_with_the_nearest_seen() {
        let deep: Vec<String> = (0..50).map(|n| format!("a/deep/{n}.txt")).collect();
        let mut files: Vec<&str> = deep.iter().map(String::as_str).collect();
        files.extend(["b/near.txt", "c/near.txt"]);
        let folder = tree(&files);
        let listing = list(folder.path(), 10, |_, _| false).expect("listed");
        assert!(listing.cut);
        assert_eq!(listing.files.len(), 6);
        assert!(paths(&listing).contains(&"c/near.txt"));
        let whole = list(folder.path(), 56, |_, _| false).expect("listed");
        assert!(!whole.cut, "exactly as many as there are");
        assert_eq!(whole.files.len(), 52);
    }

    #[test]
    fn links_and_names_that_are_no_text_are_counted_and_not_followed() {
        let folder = tree(&["in/a.txt"]);
        symlink("in", folder.path().join("link")).expect("a link");
        symlink("in/a.txt", folder.path().join("link.txt")).expect("a link");
        let odd = folder.path().join(OsStr::from_bytes(b"caf\xe9.txt"));
        fs::write(odd, "").expect("a file");
        let listing = list(folder.path(), 100, |_, _| false).expect("listed");
        assert_eq!(paths(&listing), ["in/a.txt"]);
        assert_eq!(listing.unusable, 3);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let folder = tree(&["a.txt"]);
        assert!(list(&folder.path().join("nope"), 10, |_, _| false).is_err());
        assert!(list(&folder.path().join("a.txt"), 10, |_, _| false).is_err());
    }
}
