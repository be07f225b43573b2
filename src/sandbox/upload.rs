//! The upload endpoint: reads the form, validates it as a serializer does, stores the file.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::EmptyFiles;
use super::api::{self, Api};
use super::django::{stored_name, strip};
use super::faults::Visit;
use super::http::{Answer, Body, Framing, Head};
use super::multipart::{Event, MultipartError, Part, Splitter};
use super::store::{Incoming, NewFile};

/// Django's `DATA_UPLOAD_MAX_MEMORY_SIZE`: all text fields together.
const FORM_BYTES_MAX: usize = 2_621_440;
/// Django's `DATA_UPLOAD_MAX_NUMBER_FIELDS`, and the two segments before and after the outer delimiters.
const FIELDS_MAX: usize = 1000 + 2;
/// Django's `DATA_UPLOAD_MAX_NUMBER_FILES`.
const FILES_MAX: usize = 100;
/// The fields the endpoint knows; all others count against the limits and are forgotten.
const FIELDS: [&str; 4] = ["file", "dataset_id", "organization_id", "metadata"];

/// Why an upload was not stored.
enum Refusal {
    Answered(Answer),
    /// The client hung up before the end of the body.
    CutOff,
    /// The sandbox could not write.
    Io,
}

impl From<MultipartError> for Refusal {
    fn from(MultipartError(cause): MultipartError) -> Self {
        let detail = format!("Multipart form parse error - {cause}");
        Self::Answered(api::detail(400, &detail))
    }
}

impl From<io::Error> for Refusal {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// The value of a field: of several with one name the last counts, and any file after all text.
enum Field {
    Text(String),
    File(Received),
}

/// A file part that arrived whole.
struct Received {
    bytes: Incoming,
    name: String,
    content_type: String,
}

type Form = BTreeMap<&'static str, Field>;
type Errors = Map<String, Value>;

/// Answers `POST /v1/datasets/files/upload/`.
pub(super) async fn upload(
    api: &Api,
    head: &Head,
    body: &mut Body<'_>,
    request_id: &str,
    visit: &mut Visit<'_>,
) -> Answer {
    let form = match read_form(api, head, body, visit).await {
        Ok(form) => form,
        Err(Refusal::Answered(answer)) => return answer,
        Err(Refusal::CutOff) => {
            api.counters.cut_off();
            // For a client that only closed its sending side: what Django makes of a form whose file never ends.
            // Behind gunicorn it would even store a form that lacks no more than the last three bytes, the dashes
            // and the line break after the last delimiter; here a short body stores nothing, ever.
            return api::json(400, &json!({"file": ["No file was submitted."]}));
        }
        Err(Refusal::Io) => return api::server_error(),
    };
    let (file, new) = match validate(form, api.empty_files, request_id) {
        Ok(valid) => valid,
        Err(errors) => return api::json(400, &Value::Object(errors)),
    };
    let Some(dataset) = api.dataset(&new.dataset_id) else {
        return api::detail(404, "Dataset not found.");
    };
    match api.store.keep(file, new) {
        Ok(stored) => {
            api.counters.stored();
            api::json(200, &api::uploaded(&stored, &dataset))
        }
        Err(_) => api::server_error(),
    }
}

async fn read_form(
    api: &Api,
    head: &Head,
    body: &mut Body<'_>,
    visit: &mut Visit<'_>,
) -> Result<Form, Refusal> {
    // Without a length the application sees no body at all, and does not even look at the content type.
    if matches!(head.framing, Framing::Chunked | Framing::Length(0)) {
        return Ok(Form::new());
    }
    let content_type = head.header("content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default();
    if !strip(media_type).eq_ignore_ascii_case("multipart/form-data") {
        let detail = format!("Unsupported media type \"{content_type}\" in request.");
        return Err(Refusal::Answered(api::detail(415, &detail)));
    }
    let mut splitter = Splitter::new(content_type)?;
    let mut reader = FormReader::default();
    loop {
        let chunk = body.chunk().await.map_err(|_| Refusal::CutOff)?;
        match &chunk {
            Some(bytes) => splitter.push(bytes),
            None => splitter.finish(),
        }
        while let Some(event) = splitter.next()? {
            reader.take(event, api)?;
            if let Current::File { name: "file", file } = &reader.current {
                visit.file(&file.name);
            }
        }
        if chunk.is_none() {
            visit.whole_body(body).await.map_err(Refusal::Answered)?;
            return Ok(reader.form);
        }
        visit.mid_body(body).await.map_err(Refusal::Answered)?;
    }
}

/// Gathers the parts of a form.
#[derive(Default)]
struct FormReader {
    form: Form,
    current: Current,
    fields: usize,
    files: usize,
    form_bytes: usize,
}

/// The part being read.
#[derive(Default)]
enum Current {
    #[default]
    Ignored,
    Text {
        name: String,
        value: Vec<u8>,
    },
    File {
        name: &'static str,
        file: Received,
    },
}

impl FormReader {
    fn take(&mut self, event: Event, api: &Api) -> Result<(), Refusal> {
        match event {
            Event::Begin(part) => {
                self.current = self.begin(part, api)?;
                Ok(())
            }
            Event::Data(bytes) => match &mut self.current {
                Current::Ignored => Ok(()),
                Current::File { file, .. } => Ok(file.bytes.write(&bytes)?),
                Current::Text { value, .. } => {
                    count_form_bytes(&mut self.form_bytes, bytes.len())?;
                    value.extend_from_slice(&bytes);
                    Ok(())
                }
            },
            Event::Encoded => match self.current {
                Current::Ignored => Ok(()),
                _ => Err(MultipartError("base64 parts are beyond the sandbox".into()).into()),
            },
            Event::End { followed } => self.end(followed),
        }
    }

    fn begin(&mut self, part: Part, api: &Api) -> Result<Current, Refusal> {
        let too_many = || Refusal::Answered(api::bad_request());
        if matches!(part, Part::Raw | Part::Field { .. }) {
            self.fields += 1;
            if self.fields > FIELDS_MAX {
                return Err(too_many());
            }
        }
        match part {
            Part::Raw | Part::Field { name: None } | Part::File { name: None, .. } => {
                Ok(Current::Ignored)
            }
            Part::Field { name: Some(name) } => Ok(Current::Text {
                name,
                value: Vec::new(),
            }),
            Part::File {
                name: Some(name),
                file_name,
                content_type,
            } => {
                self.files += 1;
                if self.files > FILES_MAX {
                    return Err(too_many());
                }
                let known = FIELDS.into_iter().find(|field| *field == name);
                match (known, stored_name(&file_name)) {
                    (Some(field), Some(stored)) => Ok(Current::File {
                        name: field,
                        file: Received {
                            bytes: api.store.receive()?,
                            name: stored,
                            content_type,
                        },
                    }),
                    _ => Ok(Current::Ignored),
                }
            }
        }
    }

    fn end(&mut self, followed: bool) -> Result<(), Refusal> {
        match std::mem::take(&mut self.current) {
            Current::Ignored => {}
            Current::Text { name, value } => {
                // Django counts the `&` and `=` that the field would cost in a plain form.
                count_form_bytes(&mut self.form_bytes, name.len() + 2)?;
                let known = FIELDS.into_iter().find(|field| *field == name);
                let text = String::from_utf8_lossy(&value).into_owned();
                if let Some(field) = known
                    && !matches!(self.form.get(field), Some(Field::File(_)))
                {
                    self.form.insert(field, Field::Text(text));
                }
            }
            Current::File { name, file } => {
                if followed {
                    self.form.insert(name, Field::File(file));
                }
            }
        }
        Ok(())
    }
}

/// Adds to the bytes of all text fields, as far as Django reads them.
fn count_form_bytes(total: &mut usize, more: usize) -> Result<(), Refusal> {
    *total += more;
    if *total > FORM_BYTES_MAX {
        Err(Refusal::Answered(api::bad_request()))
    } else {
        Ok(())
    }
}

/// Checks all fields and says everything that is wrong with them at once.
fn validate(
    mut form: Form,
    empty_files: EmptyFiles,
    request_id: &str,
) -> Result<(Incoming, NewFile), Errors> {
    let mut errors = Errors::new();
    let file = match form.remove("file") {
        None => Err("No file was submitted."),
        Some(Field::Text(_)) => {
            Err("The submitted data was not a file. Check the encoding type on the form.")
        }
        Some(Field::File(file)) => match empty_files {
            EmptyFiles::Refuse if file.bytes.size() == 0 => Err("The submitted file is empty."),
            _ => Ok(file),
        },
    };
    let dataset_id = text(form.remove("dataset_id")).and_then(|text| {
        text.map_or(Ok(api::DEFAULT_DATASET_ID.to_owned()), |text| {
            let id = python_uuid(&text).ok_or("Must be a valid UUID.")?;
            Ok(id.to_string())
        })
    });
    let organization_id = text(form.remove("organization_id"));
    let metadata = text(form.remove("metadata"))
        .map_err(str::to_owned)
        .and_then(|text| text.map_or(Ok(Map::new()), |text| parse_metadata(&text)));

    let mut field = |name: &str, message: String| {
        errors.insert(name.to_owned(), json!([message]));
    };
    let file = file.map_err(|message| field("file", message.into())).ok();
    let dataset_id = dataset_id
        .map_err(|message| field("dataset_id", message.into()))
        .ok();
    let organization_id = organization_id
        .map_err(|message| field("organization_id", message.into()))
        .ok();
    let metadata = metadata.map_err(|message| field("metadata", message)).ok();
    match (file, dataset_id, organization_id, metadata) {
        (Some(file), Some(dataset_id), Some(organization_id), Some(metadata)) => Ok((
            file.bytes,
            NewFile {
                name: file.name,
                content_type: file.content_type,
                metadata,
                dataset_id,
                organization_id,
                request_id: Some(request_id.to_owned()),
            },
        )),
        _ => Err(errors),
    }
}

/// What a `CharField` makes of a field; an optional one without a character is an error too, where Django would take it
/// for absent and put the file into the default dataset.
fn text(field: Option<Field>) -> Result<Option<String>, &'static str> {
    match field {
        None => Ok(None),
        Some(Field::File(_)) => Err("Not a valid string."),
        Some(Field::Text(text)) => match strip(&text) {
            "" => Err("This field may not be blank."),
            text if text.contains('\0') => Err("Null characters are not allowed."),
            text => Ok(Some(text.to_owned())),
        },
    }
}

/// What Python's `uuid.UUID(text)` takes for one: any hyphens, braces and prefix.
fn python_uuid(text: &str) -> Option<Uuid> {
    let bare = text.replace("urn:", "").replace("uuid:", "");
    let digits = bare.trim_matches(['{', '}']).replace('-', "");
    let plain = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| Uuid::parse_str(&digits).ok()).flatten()
}

fn parse_metadata(text: &str) -> Result<Map<String, Value>, String> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| format!("Value must be valid JSON: {error}."))?;
    let Value::Object(metadata) = value else {
        return Err("Value must be a JSON object.".into());
    };
    match metadata.iter().find(|(_, value)| !value.is_string()) {
        Some((key, value)) => Err(format!(
            "The value of {key:?} must be a string, not {value}."
        )),
        None => Ok(metadata),
    }
}
