//! Lines at the bottom of a terminal that are drawn over: what has to be written for that.

use std::fmt::Write;

use super::render::columns_of;

/// Moves to the beginning of a line, clears to its end, clears to the screen's.
const HOME: char = '\r';
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// What is drawn at the bottom; the cursor stands at its end.
#[derive(Debug, Default)]
pub(super) struct Screen {
    drawn: Vec<String>,
    columns: usize,
}

impl Screen {
    /// What writes these lines above, and draws these at the bottom, in the place of what is
    /// there. Nothing where nothing changes.
    pub(super) fn frame(&mut self, above: &str, bottom: Vec<String>, columns: usize) -> String {
        let mut text = String::new();
        if above.is_empty() && bottom == self.drawn && columns == self.columns {
            return text;
        }
        self.back(&mut text, columns);
        if !above.is_empty() {
            text.push_str(CLEAR_BELOW);
            // The terminal is as it is for everybody: a line feed alone goes to the next line's
            // beginning.
            text.push_str(above);
        }
        for (number, line) in bottom.iter().enumerate() {
            if number > 0 {
                text.push('\n');
            }
            text.push_str(line);
            text.push_str(CLEAR_LINE);
        }
        text.push_str(CLEAR_BELOW);
        self.drawn = bottom;
        self.columns = columns;
        text
    }

    /// Goes back to the beginning of what is drawn. Where the terminal has become narrower since,
    /// what was one row may have become several.
    fn back(&self, text: &mut String, columns: usize) {
        if self.drawn.is_empty() {
            return;
        }
        let rows = |line: &String| columns_of(line).div_ceil(columns.max(1)).max(1);
        let rows: usize = self.drawn.iter().map(rows).sum();
        text.push(HOME);
        if rows > 1 {
            let _ = write!(text, "\u{1b}[{}A", rows - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|&line| line.to_owned()).collect()
    }

    #[test]
    fn what_is_drawn_is_drawn_over_without_being_cleared_first() {
        let mut screen = Screen::default();
        assert_eq!(
            screen.frame("", lines(&["one", "two"]), 80),
            "one\u{1b}[K\ntwo\u{1b}[K\u{1b}[J"
        );
        assert_eq!(screen.frame("", lines(&["one", "two"]), 80), "");
        assert_eq!(
            screen.frame("", lines(&["three", "four"]), 80),
            "\r\u{1b}[1Athree\u{1b}[K\nfour\u{1b}[K\u{1b}[J"
        );
    }

    #[test]
    fn a_line_above_takes_the_place_of_what_is_drawn_which_moves_down() {
        let mut screen = Screen::default();
        assert_eq!(
            screen.frame("said\n", Vec::new(), 80),
            "\u{1b}[Jsaid\n\u{1b}[J"
        );
        screen.frame("", lines(&["one", "two"]), 80);
        assert_eq!(
            screen.frame("said\n", lines(&["one", "two"]), 80),
            "\r\u{1b}[1A\u{1b}[Jsaid\none\u{1b}[K\ntwo\u{1b}[K\u{1b}[J"
        );
        assert_eq!(screen.frame("", Vec::new(), 80), "\r\u{1b}[1A\u{1b}[J");
        assert_eq!(screen.frame("", Vec::new(), 80), "");
    }

    #[test]
    fn a_terminal_that_has_become_narrower_has_more_rows_to_go_back() {
        let mut screen = Screen::default();
        screen.frame("", lines(&[&"x".repeat(79), "two"]), 80);
        let frame = screen.frame("", lines(&["one"]), 40);
        assert!(frame.starts_with("\r\u{1b}[2A"), "{frame:?}");
    }
}
