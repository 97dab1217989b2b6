//! The secret that opens an account. It has no text form but in the header of a request.
use reqwest_011::header::HeaderValue;

use super::ApiError;

/// The variable that it comes from, and the only place.
const VARIABLE: &str = "DIGITALOCEAN_ACCESS_TOKEN";

/// A token of the API.
pub(crate) struct Token(HeaderValue);

impl Token {
    /// From the environment.
    ///
    /// # Errors
    /// [`ApiError::NoToken`], [`ApiError::BadToken`].
    pub(crate) fn from_environment() -> Result<Token, ApiError> {
        let text = std::env::var_os(VARIABLE).ok_or(ApiError::NoToken)?;
        Token::new(text.to_str().ok_or(ApiError::BadToken)?)
    }

    fn new(text: &str) -> Result<Token, ApiError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ApiError::NoToken);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ApiError::BadToken);
        }
        let value = HeaderValue::from_str(&format!("Bearer {text}"));
        let mut value = value.map_err(|_| ApiError::BadToken)?;
        // Shown by nobody that shows headers.
        value.set_sensitive(true);
        Ok(Token(value))
    }

    #[cfg(test)]
    pub(super) fn new_for_tests() -> Token {
        Token(HeaderValue::from_static("Bearer never-sent"))
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_cannot_be_one_is_refused_without_being_shown() {
        assert!(matches!(Token::new(" \n"), Err(ApiError::NoToken)));
        for bad in ["a b", "a\nb", "schlüssel"] {
            let error = Token::new(bad).unwrap_err();
            assert!(matches!(error, ApiError::BadToken) && !error.to_string().contains(bad));
        }
        let token = Token::new("dop_v1_secret\n").unwrap();
        assert!(!format!("{token:?} {:?}", token.header()).contains("secret"));
    }
}
