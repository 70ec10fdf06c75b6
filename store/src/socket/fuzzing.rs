//! See [`crate::fuzzing`].

use ::bytes::Bytes;

use super::answers::Answer;
use super::requests::{self, Request};
use super::transport;

/// A request.
pub fn request(bytes: &[u8]) {
    let Ok(request) = Request::decode(bytes) else { return };
    let again = request.encode();
    assert!(again.as_ref().is_ok_and(|again| again.len() <= bytes.len()), "the encoding is not longer than the input");
    let again = again.and_then(|again| Request::decode(&again));
    assert_eq!(again, Ok(request), "the encoding decodes to the same request");
}

/// An answer.
pub fn answer(bytes: &[u8]) {
    if let Ok(answer) = Answer::decode(&Bytes::copy_from_slice(bytes)) {
        let again = answer.encode();
        assert!(again.len() <= bytes.len(), "the encoding is not longer than the input");
        if let Answer::Frames(frames) = &answer {
            let mut records = Vec::new();
            let _ = frames.iter().try_for_each(|frame| frame.records_into(&mut records, 0).map(drop));
        }
        assert_eq!(Answer::decode(&again.into()), Ok(answer), "the encoding decodes to the same answer");
    }
}

/// The data on a socket: messages, one after the other, then the rest.
pub fn message(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some(received)) = transport::receive(&mut rest, requests::MAX_LENGTH) {
        let mut sent = Vec::new();
        assert!(transport::send(&mut sent, &received).is_ok());
        let end = bytes.len() - rest.len();
        assert!(bytes[..end].ends_with(&sent), "a message is sent as it was received");
    }
}
