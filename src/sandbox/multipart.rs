//! Splits a multipart body into parts while it arrives, as Django's parser does.
//!
//! Django knows no preamble and no closing delimiter: whatever lies between two delimiters is a segment, and a segment
//! is a part when its headers say so. A delimiter counts wherever it stands, not only at the start of a line.

use bytes::{Bytes, BytesMut};

use super::django::{HeaderLine, header_parameters, strip};

/// The longest header block of a part, with the line break before it and the blank line after it.
const HEADERS_BYTES_MAX: usize = 1024;

/// The longest boundary Django accepts.
const BOUNDARY_CHARS_MAX: usize = 201;

/// Why a body cannot be split, in the words Django uses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MultipartError(pub(super) String);

/// What the header block of a segment makes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// No disposition: preamble, epilogue or junk.
    Raw,
    /// A text field; its name is missing when the disposition has none.
    Field { name: Option<String> },
    /// A file.
    File {
        name: Option<String>,
        file_name: String,
        content_type: String,
    },
}

/// One step through the body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A segment begins.
    Begin(Part),
    /// Some of its content.
    Data(Bytes),
    /// It is over. Django keeps a file only when something follows the delimiter after it.
    End { followed: bool },
    /// The segment is encoded in a way the sandbox does not decode.
    Encoded,
}

enum State {
    Head,
    Content,
    Between,
    Done,
}

/// Takes chunks of a body and gives back events; holds at most one chunk and one header block.
pub(super) struct Splitter {
    delimiter: Vec<u8>,
    /// How far a search may jump when a window ends in this byte (Horspool).
    jumps: Box<[usize; 256]>,
    buffer: BytesMut,
    state: State,
    finished: bool,
    encoded: bool,
}

impl Splitter {
    /// Starts on a body of this content type.
    pub(super) fn new(content_type: &str) -> Result<Self, MultipartError> {
        if !content_type.starts_with("multipart/") {
            return Err(MultipartError(format!(
                "Invalid Content-Type: {content_type}"
            )));
        }
        if !content_type.is_ascii() {
            return Err(MultipartError(format!(
                "Invalid non-ASCII Content-Type in multipart: {content_type}"
            )));
        }
        let boundary =
            header_parameters(content_type).and_then(|mut line| line.params.remove("boundary"));
        let valid = boundary.as_deref().filter(|text| {
            let printable = text.bytes().all(|b| (b' '..=b'~').contains(&b));
            printable && !text.ends_with(' ') && (1..=BOUNDARY_CHARS_MAX).contains(&text.len())
        });
        let Some(boundary) = valid else {
            let shown = boundary.as_deref().unwrap_or("None");
            return Err(MultipartError(format!(
                "Invalid boundary in multipart: {shown}"
            )));
        };
        let delimiter = format!("--{boundary}").into_bytes();
        let mut jumps = Box::new([delimiter.len(); 256]);
        for (at, byte) in delimiter[..delimiter.len() - 1].iter().enumerate() {
            jumps[usize::from(*byte)] = delimiter.len() - 1 - at;
        }
        Ok(Self {
            delimiter,
            jumps,
            buffer: BytesMut::new(),
            state: State::Head,
            finished: false,
            encoded: false,
        })
    }

    /// Adds the next bytes of the body.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// Says that the body is over.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// The next event; `None` when more bytes are needed, or after [`Splitter::finish`] when nothing is left.
    pub(super) fn next(&mut self) -> Result<Option<Event>, MultipartError> {
        match self.state {
            State::Head => self.head(),
            State::Content => Ok(self.content()),
            State::Between => Ok(self.between()),
            State::Done => Ok(None),
        }
    }

    fn head(&mut self) -> Result<Option<Event>, MultipartError> {
        let (safe, closed) = self.safe();
        let seen = safe.min(HEADERS_BYTES_MAX);
        let end = find_blank_line(&self.buffer[..seen]);
        if end.is_none() {
            if seen == HEADERS_BYTES_MAX {
                return Err(MultipartError(
                    "Request max total header size exceeded.".into(),
                ));
            }
            if !closed && !self.finished {
                return Ok(None);
            }
        }
        let mut part = Part::Raw;
        if let Some(end) = end {
            let block = self.buffer.split_to(end + 4);
            (part, self.encoded) = read_headers(&block[..end]);
        }
        self.state = State::Content;
        Ok(Some(Event::Begin(part)))
    }

    fn content(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.encoded) {
            return Some(Event::Encoded);
        }
        let (safe, closed) = self.safe();
        if safe > 0 {
            return Some(Event::Data(self.buffer.split_to(safe).freeze()));
        }
        if closed {
            let line_break = find(&self.buffer, &self.delimiter, &self.jumps).unwrap_or(0);
            let _ = self.buffer.split_to(line_break + self.delimiter.len());
            self.state = State::Between;
            return self.between();
        }
        if self.finished {
            self.state = State::Done;
            return Some(Event::End { followed: false });
        }
        None
    }

    fn between(&mut self) -> Option<Event> {
        let followed = !self.buffer.is_empty();
        if !followed && !self.finished {
            return None;
        }
        self.state = if followed { State::Head } else { State::Done };
        Some(Event::End { followed })
    }

    /// How many bytes at the front certainly belong to the segment, and whether its delimiter stands right after them.
    fn safe(&self) -> (usize, bool) {
        let data = &self.buffer[..];
        if let Some(mut end) = find(data, &self.delimiter, &self.jumps) {
            end -= usize::from(data[..end].ends_with(b"\n"));
            end -= usize::from(data[..end].ends_with(b"\r"));
            return (end, true);
        }
        let held = if self.finished {
            0
        } else {
            self.delimiter.len() + 1
        };
        (data.len().saturating_sub(held), false)
    }
}

/// The first place of the delimiter.
fn find(data: &[u8], delimiter: &[u8], jumps: &[usize; 256]) -> Option<usize> {
    let last = delimiter.len() - 1;
    let mut at = 0;
    while let Some(byte) = data.get(at + last) {
        if *byte == delimiter[last] && data[at..at + last] == delimiter[..last] {
            return Some(at);
        }
        at += jumps[usize::from(*byte)];
    }
    None
}

fn find_blank_line(data: &[u8]) -> Option<usize> {
    data.windows(4).position(|window| window == b"\r\n\r\n")
}

/// Reads a header block: what the part is, and whether it is in base64.
fn read_headers(block: &[u8]) -> (Part, bool) {
    let mut disposition = None;
    let mut content_type = String::new();
    let mut encoded = false;
    let mut rest = block;
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n");
        let (line, next) = rest.split_at(end.unwrap_or(rest.len()));
        // A line that is not UTF-8, or that Python cannot take apart, is as good as absent.
        let parsed = std::str::from_utf8(line).ok().and_then(header_parameters);
        if let Some(HeaderLine { main, params }) = parsed
            && let Some((name, value)) = main.split_once(':')
        {
            match name {
                "content-disposition" => disposition = Some(params),
                "content-type" => strip(value).clone_into(&mut content_type),
                "content-transfer-encoding" => encoded = strip(value) == "base64",
                _ => {}
            }
        }
        match next.get(2..) {
            Some(next) => rest = next,
            None => break,
        }
    }
    let Some(mut params) = disposition else {
        return (Part::Raw, false);
    };
    let name = params
        .remove("name")
        .map(|name| name.trim_matches(is_ascii_blank).to_owned());
    let part = match params.remove("filename") {
        Some(file_name) if !file_name.is_empty() => Part::File {
            name,
            file_name,
            content_type,
        },
        _ => Part::Field { name },
    };
    (part, encoded)
}

/// What Python's `bytes.strip()` removes.
fn is_ascii_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    /// The parts of a body that arrives in pieces: each with its content and whether something follows.
    fn parts(pieces: &[&[u8]]) -> Vec<(Part, Vec<u8>, bool)> {
        let mut splitter = Splitter::new("multipart/form-data; boundary=BB").unwrap();
        let mut parts = Vec::new();
        for piece in pieces.iter().map(Some).chain([None]) {
            match piece {
                Some(bytes) => splitter.push(bytes),
                None => splitter.finish(),
            }
            while let Some(event) = splitter.next().unwrap() {
                match event {
                    Event::Begin(part) => parts.push((part, Vec::new(), false)),
                    Event::Data(bytes) => parts.last_mut().unwrap().1.extend_from_slice(&bytes),
                    Event::End { followed } => parts.last_mut().unwrap().2 = followed,
                    Event::Encoded => panic!("nothing here is encoded"),
                }
            }
        }
        parts
    }

    #[test]
    fn a_body_is_split_alike_wherever_the_network_cuts_it() {
        let body = b"--BB\r\nContent-Disposition: form-data; name=a; filename=\"f;\\\"\"\r\n\r\n\
            one\r\n--B\r\n\n\r--\r\n--BB\r\ncontent-disposition: form-data; name=\" b \"\r\n\r\n\
            \r\n--BB\r\nno headers\r\n--BB--\r\n";
        let whole = parts(&[body]);
        let file = Part::File {
            name: Some("a".into()),
            file_name: "f;\"".into(),
            content_type: String::new(),
        };
        let field = Part::Field {
            name: Some("b".into()),
        };
        let expected = [
            (Part::Raw, &b""[..], true),
            (file, b"one\r\n--B\r\n\n\r--", true),
            (field, b"", true),
            (Part::Raw, b"\r\nno headers", true),
            (Part::Raw, b"--\r\n", false),
        ]
        .map(|(part, content, followed)| (part, content.to_vec(), followed));
        assert_eq!(whole, expected);
        for at in 0..body.len() {
            let (head, tail) = body.split_at(at);
            assert_eq!(parts(&[head, tail]), whole, "cut at {at}");
        }
        let single: Vec<_> = body.chunks(1).collect();
        assert_eq!(parts(&single), whole);
    }
}
