//! runlen TEXT...: print how often each character of a text comes in a row; `runlen -d CODE...` turns that back.

use std::env;
use std::process::ExitCode;

fn encode(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        let mut count: u64 = 1;
        while rest.next_if_eq(&letter).is_some() {
            count += 1;
        }
        code.push_str(&count.to_string());
        code.push(letter);
    }
    code
}

/// Longest text that a code may stand for: a short code must not fill the memory.
const MOST_CHARS: usize = 1 << 20;

fn decode(code: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut chars = 0;
    let mut digits = String::new();
    for letter in code.chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let count: usize = digits
            .parse()
            .map_err(|_| format!("{letter:?} has no usable number before it"))?;
        if count > MOST_CHARS - chars {
            return Err(format!("it stands for more than {MOST_CHARS} characters"));
        }
        chars += count;
        text.extend(std::iter::repeat(letter).take(count));
        digits.clear();
    }
    if digits.is_empty() {
        Ok(text)
    } else {
        Err("it ends with a number".to_string())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let decoding = arguments.first().map_or(false, |first| first == "-d");
    let texts = &arguments[usize::from(decoding)..];
    if texts.is_empty() {
        eprintln!("usage: runlen [-d] TEXT...");
        return ExitCode::from(2);
    }
    let mut ending = ExitCode::SUCCESS;
    for text in texts {
        match if decoding { decode(text) } else { Ok(encode(text)) } {
            Ok(answer) => println!("{answer}"),
            Err(reason) => {
                eprintln!("runlen: {text:?}: {reason}");
                ending = ExitCode::from(1);
            }
        }
    }
    ending
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn counts_runs() {
        assert_eq!(encode("aaabccd"), "3a1b2c1d");
        assert_eq!(encode("ßß"), "2ß");
        assert_eq!(encode(""), "");
    }

    #[test]
    fn decodes_what_it_encoded() {
        for text in ["", "x", "aaaaaaaaaaaa", "a b  c", "ßß→"] {
            assert_eq!(decode(&encode(text)).as_deref(), Ok(text));
        }
    }

    #[test]
    fn refuses_broken_codes() {
        for code in ["a", "3", "2a3", "99999999999999999999a", "1048576a1a"] {
            assert!(decode(code).is_err(), "{code}");
        }
    }
}
