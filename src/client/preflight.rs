//! stub

use super::Client;

/// Whether the service answers.
#[derive(Debug)]
pub enum Alive {
    /// yes
    Yes,
    /// no
    No(String),
}

impl Client {
    /// asks
    pub async fn alive(&self) -> Alive {
        let mut url = self.upload.clone();
        url.set_path("/v1/users/current_user/");
        match self
            .http
            .get(url)
            .header("authorization", self.authorization.clone())
            .send()
            .await
        {
            Ok(answer) if answer.status().as_u16() < 500 => Alive::Yes,
            Ok(answer) => Alive::No(format!("HTTP {}", answer.status().as_u16())),
            Err(error) => Alive::No(super::classify(&error).text().to_owned()),
        }
    }
}
