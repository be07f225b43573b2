//! When cron starts something.

/// The fields, and their least and greatest numbers. Seven is no day of the week: Kubernetes does
/// not take it for Sunday.
const FIELDS: [(&str, u8, u8); 5] = [
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("day of the week", 0, 6),
];

/// A time as both crontabs and Kubernetes read it: five fields of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronTime(String);

impl CronTime {
    /// Takes five fields, each `*`, a number or a range, with a step or without, or several of
    /// these with commas between.
    ///
    /// # Errors
    ///
    /// Says which field is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        if fields.len() != FIELDS.len() {
            return Err(
                "give minute, hour, day of the month, month and day of the week, as in 15 2 * * *"
                    .to_owned(),
            );
        }
        for (field, (name, least, most)) in fields.iter().zip(FIELDS) {
            if !field.split(',').all(|part| is_part(part, least, most)) {
                return Err(format!(
                    "the {name} is *, or numbers from {least} to {most} as in 1,3 or 1-5 or */2"
                ));
            }
        }
        Ok(Self(fields.join(" ")))
    }

    /// The five fields, with one space between them.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_part(part: &str, least: u8, most: u8) -> bool {
    let number = |text: &str| {
        let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u8>().ok().filter(|_| is_digits)
    };
    let within = |text| number(text).filter(|n| (least..=most).contains(n));
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    let is_range = range == "*"
        || range
            .split_once('-')
            .is_some_and(|(a, b)| within(a).zip(within(b)).is_some_and(|(a, b)| a <= b));
    match step {
        // Crons differ in what a step of a single number is.
        Some(step) => is_range && number(step).is_some_and(|step| (1..=most).contains(&step)),
        None => is_range || within(range).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_fields_of_numbers_are_a_time() {
        for (text, kept) in [
            ("15 2 * * *", "15 2 * * *"),
            (" */5\t*  * * 1-5 ", "*/5 * * * 1-5"),
            ("0,30 8-18/2 1 1,6 0", "0,30 8-18/2 1 1,6 0"),
            ("59 23 31 12 6", "59 23 31 12 6"),
        ] {
            let time = CronTime::parse(text).expect(text);
            assert_eq!(time.as_str(), kept);
        }
    }

    #[test]
    fn what_a_cron_may_read_otherwise_is_none() {
        for text in [
            "",
            "15 2 * *",
            "15 2 * * * root",
            "@daily",
            "60 2 * * *",
            "15 24 * * *",
            "15 2 0 * *",
            "15 2 * 13 *",
            "15 2 * * 7",
            "15 2 * jan *",
            "15 2 * * mon",
            "5/10 * * * *",
            "*/0 * * * *",
            "*/60 * * * *",
            "9-3 * * * *",
            "1- * * * *",
            "+1 * * * *",
            "1,,2 * * * *",
            "1, * * * *",
            "-1 * * * *",
            "% * * * *",
        ] {
            assert!(CronTime::parse(text).is_err(), "{text}");
        }
    }
}
