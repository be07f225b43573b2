//! A look at the service before anything is sent: can the key be used, is the dataset there?

use std::time::Instant;

use jiff::Timestamp;
use reqwest::Url;
use serde_json::{Map, Value};

use super::listing::{ask_of, dataset_path};
use super::verdict::describe;
use super::{Answer, Break, Client, More, Presence};
use crate::model::{DatasetId, OrganizationId, RetryAfter, Target, canonical_id};

/// Whom the key belongs to: the cheapest answer that needs one.
const USER_PATH: &str = "/v1/users/current_user/";

/// Pages of datasets that are read in search of one.
const LISTING_PAGES_MAX: u32 = 10;

/// Longest answer that is read, in MiB.
const ANSWER_MIB_MAX: usize = 1;

/// What one cheap request says of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preflight {
    /// It is there, takes the key, and knows the dataset.
    Ready,
    /// It was reached and does not say: the endpoint may be absent, or closed to this key. That
    /// is no error; uploads will tell.
    Unsaid(String),
    /// It does not take the key.
    Refused(String),
    /// It has datasets, and this is none of them.
    UnknownDataset(String),
    /// It asks for patience.
    Busy(Option<RetryAfter>),
    /// It fails, or its answer did not come whole.
    Failing(String),
    /// No connection came about.
    Unreached(String),
    /// Its certificate or TLS is not acceptable, or a proxy on the way wants credentials.
    Misconfigured(String),
}

/// What one cheap request tells somebody who looks for what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// As the first look of a run has it.
    pub preflight: Preflight,
    /// The answer's status, where one came.
    pub status: Option<u16>,
    /// The service's clock, where it told the time.
    pub clock: Option<Timestamp>,
}

/// What was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    User,
    Dataset,
}

impl Client {
    /// Makes one cheap authenticated request: for the target's dataset, where it names one, else
    /// for the user that the key belongs to. What would end a run is asked about twice: a refused
    /// key at the other endpoint, an unknown dataset in the listing. Nothing is tried again.
    pub async fn preflight(&self, target: &Target) -> Preflight {
        let Some(dataset) = &target.dataset_id else {
            return self.alive().await;
        };
        let path = match dataset_path(dataset) {
            Ok(path) => path,
            Err(why) => return Preflight::Unsaid(why.to_string()),
        };
        let mut url = self.url(&path);
        let organization = target.organization_id.as_ref();
        ask_of(&mut url, organization);
        match self.look(url, About::Dataset).await {
            // The key may be good for uploads and for little else.
            Preflight::Refused(why) => match self.alive().await {
                Preflight::Refused(why) => Preflight::Refused(why),
                _ => Preflight::Unsaid(why),
            },
            // A service without this endpoint may say the same.
            Preflight::UnknownDataset(why) => match self.lists(dataset, organization).await {
                Some(Presence::Deleted) => Preflight::UnknownDataset(why),
                Some(Presence::Live) | None => Preflight::Unsaid(why),
            },
            other => other,
        }
    }

    /// Whether the listing of datasets has one, where it can be read to its end.
    async fn lists(
        &self,
        dataset: &DatasetId,
        organization: Option<&OrganizationId>,
    ) -> Option<Presence> {
        for number in 1..=LISTING_PAGES_MAX {
            let page = self.datasets(None, organization, number).await.ok()?;
            let is_it =
                |id: &DatasetId| canonical_id(id.as_str()) == canonical_id(dataset.as_str());
            if page.entries.iter().any(|entry| is_it(&entry.id)) {
                return Some(Presence::Live);
            }
            let seen = page.entries.len() + page.unreadable;
            let ends = match page.more {
                More::No => true,
                More::Yes => false,
                More::Unsaid => page.count.is_some_and(|count| count == seen as u64),
            };
            if ends {
                return (page.unreadable == 0).then_some(Presence::Deleted);
            }
            if page.more == More::Unsaid {
                return None;
            }
        }
        None
    }

    /// Whether the service answers at all: one cheap request that is about no dataset.
    pub async fn alive(&self) -> Preflight {
        self.look(self.url(USER_PATH), About::User).await
    }

    /// As [`Client::alive`], and what else the answer tells.
    pub async fn examine(&self) -> Examined {
        match self.get(self.url(USER_PATH), ANSWER_MIB_MAX).await {
            Ok((answer, clock)) => Examined {
                preflight: self.without_key_in(judge(&answer, About::User)),
                status: Some(answer.status),
                clock,
            },
            Err(broken) => Examined {
                preflight: unanswered(broken),
                status: None,
                clock: None,
            },
        }
    }

    async fn look(&self, url: Url, about: About) -> Preflight {
        match self.timed(url).await {
            Ok(answer) => self.without_key_in(judge(&answer, about)),
            Err(broken) => unanswered(broken),
        }
    }

    async fn timed(&self, url: Url) -> Result<Answer, Break> {
        let begun = Instant::now();
        let (answer, _) = self.get(url, ANSWER_MIB_MAX).await?;
        self.round_trip.saw(begun.elapsed());
        Ok(answer)
    }

    /// The key may have been escaped in the answer, where it was not found.
    fn without_key_in(&self, preflight: Preflight) -> Preflight {
        match preflight {
            Preflight::Unsaid(why) => Preflight::Unsaid(self.without_key(&why)),
            Preflight::UnknownDataset(why) => Preflight::UnknownDataset(self.without_key(&why)),
            Preflight::Failing(why) => Preflight::Failing(self.without_key(&why)),
            Preflight::Refused(why) => Preflight::Refused(self.without_key(&why)),
            Preflight::Misconfigured(why) => Preflight::Misconfigured(self.without_key(&why)),
            other @ (Preflight::Ready | Preflight::Busy(_) | Preflight::Unreached(_)) => other,
        }
    }
}

fn is_whole(answer: &Answer) -> bool {
    answer.status == 200 && answer.cut.is_none()
}

fn is_object(body: &[u8]) -> bool {
    serde_json::from_slice::<Map<String, Value>>(body).is_ok()
}

fn judge(answer: &Answer, about: About) -> Preflight {
    let why = || describe(answer);
    match answer.status {
        200 if is_whole(answer) && is_object(&answer.body) => Preflight::Ready,
        // What is in half an answer is nobody's message.
        200..=299 if answer.cut.is_some() => Preflight::Failing(format!(
            "HTTP {} ({})",
            answer.status,
            answer.cut.as_deref().unwrap_or_default()
        )),
        401 | 402 => Preflight::Refused(why()),
        404 if about == About::Dataset && is_object(&answer.body) => {
            Preflight::UnknownDataset(why())
        }
        425 | 429 | 503 => {
            Preflight::Busy(answer.retry_after.as_deref().and_then(RetryAfter::parse))
        }
        // A proxy on the way, which passes nothing on.
        407 => Preflight::Misconfigured(why()),
        501 => Preflight::Unsaid(why()),
        408 | 500..=599 => Preflight::Failing(why()),
        _ => Preflight::Unsaid(why()),
    }
}

fn unanswered(broken: Break) -> Preflight {
    match broken {
        Break::Connect(why) => Preflight::Unreached(why),
        Break::Tls(why) => Preflight::Misconfigured(why),
        Break::Foreign(why) => Preflight::Misconfigured(format!("{why}; try without --http2")),
        Break::Refused(why) | Break::Stall(why) | Break::Lost(why) => Preflight::Failing(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The judgement in a word.
    fn word(preflight: &Preflight) -> &'static str {
        match preflight {
            Preflight::Ready => "ready",
            Preflight::Unsaid(_) => "unsaid",
            Preflight::Refused(_) => "refused",
            Preflight::UnknownDataset(_) => "unknown",
            Preflight::Busy(Some(_)) => "busy, says how long",
            Preflight::Busy(None) => "busy",
            Preflight::Failing(_) => "failing",
            Preflight::Unreached(_) => "unreached",
            Preflight::Misconfigured(_) => "misconfigured",
        }
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            body: body.as_bytes().to_vec(),
            ..Answer::default()
        }
    }

    #[test]
    fn each_answer_has_its_row() {
        let json = r#"{"detail": "x"}"#;
        let html = "<html><title>x</title>";
        let rows: [(u16, &str, &str, &str); 27] = [
            (200, json, "ready", "ready"),
            (200, html, "unsaid", "unsaid"),
            (200, "[]", "unsaid", "unsaid"),
            (200, "", "unsaid", "unsaid"),
            (204, "", "unsaid", "unsaid"),
            (301, "", "unsaid", "unsaid"),
            (302, html, "unsaid", "unsaid"),
            (400, json, "unsaid", "unsaid"),
            (401, json, "refused", "refused"),
            (402, "", "refused", "refused"),
            (403, json, "unsaid", "unsaid"),
            (404, json, "unsaid", "unknown"),
            (404, html, "unsaid", "unsaid"),
            (404, "[]", "unsaid", "unsaid"),
            (404, "", "unsaid", "unsaid"),
            (405, json, "unsaid", "unsaid"),
            (407, html, "misconfigured", "misconfigured"),
            (408, "", "failing", "failing"),
            (410, json, "unsaid", "unsaid"),
            (425, "", "busy", "busy"),
            (429, json, "busy", "busy"),
            (500, html, "failing", "failing"),
            (501, html, "unsaid", "unsaid"),
            (502, html, "failing", "failing"),
            (503, html, "busy", "busy"),
            (504, "", "failing", "failing"),
            (600, "", "unsaid", "unsaid"),
        ];
        for (status, body, user, dataset) in rows {
            let answer = answer(status, body);
            assert_eq!(word(&judge(&answer, About::User)), user, "{status} {body}");
            assert_eq!(
                word(&judge(&answer, About::Dataset)),
                dataset,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn patience_is_asked_for_with_a_time_where_one_is_given() {
        for status in [429, 503] {
            let timed = Answer {
                retry_after: Some("7".to_owned()),
                ..answer(status, "")
            };
            assert_eq!(word(&judge(&timed, About::User)), "busy, says how long");
        }
    }

    #[test]
    fn half_an_answer_is_no_word_of_the_services() {
        let cut = Answer {
            cut: Some("the answer broke off".to_owned()),
            ..answer(200, "{}")
        };
        assert_eq!(word(&judge(&cut, About::User)), "failing");
    }

    #[test]
    fn no_answer_says_how_far_the_service_is() {
        for (broken, expected) in [
            (Break::Connect as fn(String) -> Break, "unreached"),
            (Break::Tls, "misconfigured"),
            (Break::Refused, "failing"),
            (Break::Stall, "failing"),
            (Break::Lost, "failing"),
        ] {
            assert_eq!(word(&unanswered(broken("why".to_owned()))), expected);
        }
    }
}
