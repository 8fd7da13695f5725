//! The expression language of `where` and `on` (`contract/read.md` 4.1), Python's precedence.

use model::filter::{BinaryOp, Expr, Function, Scope};
use model::value::{Number, Value};

/// Deepest nesting.
pub const DEPTH_MAX: usize = 200;
/// Longest expression, bytes.
pub const BYTES_MAX: usize = 64 * 1024;

/// Why an expression does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at character {at}")]
pub struct ExpressionError {
    /// Where, counted in characters from 1.
    pub at: usize,
    /// What is wrong there.
    pub reason: String,
}

/// Parses an expression.
pub fn parse(text: &str) -> Result<Expr, ExpressionError> {
    let mut parser = Parser { text, at: 0, depth: 0, links: 0 };
    if text.len() > BYTES_MAX {
        return Err(parser.error("longer than 65536 bytes"));
    }
    let expr = parser.or()?;
    parser.skip_space();
    if parser.at < text.len() { Err(parser.error("unexpected text")) } else { Ok(expr) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    links: usize,
}

/// Links of arithmetic chains in one expression.
const LINKS_MAX: usize = 1000;

type Parsed = Result<Expr, ExpressionError>;

/// A chain as a tree of little depth, in the order of its terms: scripts name thousands of ids in one.
fn chained(mut terms: Vec<Expr>, join: fn(Box<Expr>, Box<Expr>) -> Expr) -> Expr {
    if terms.len() < 2 {
        return terms.pop().unwrap_or(Expr::Undefined);
    }
    let rest = terms.split_off(terms.len().div_ceil(2));
    join(Box::new(chained(terms, join)), Box::new(chained(rest, join)))
}

impl Parser<'_> {
    fn error(&self, reason: &str) -> ExpressionError {
        ExpressionError { at: self.text[..self.at].chars().count() + 1, reason: reason.to_owned() }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    fn word(&mut self, word: &str) -> bool {
        self.skip_space();
        let found = self.peek_word() == word;
        if found {
            self.at += word.len();
        }
        found
    }

    fn peek_word(&self) -> &str {
        let rest = self.rest();
        let end = rest.find(|char: char| !(char.is_ascii_alphanumeric() || char == '_')).unwrap_or(rest.len());
        &rest[..end]
    }

    fn expect(&mut self, symbol: &str) -> Result<(), ExpressionError> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.error(&format!("expected `{symbol}`"))) }
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, ExpressionError>) -> Result<T, ExpressionError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error("nested too deep"));
        }
        let out = inner(self);
        self.depth -= 1;
        out
    }

    fn or(&mut self) -> Parsed {
        self.deeper(|parser| {
            let mut terms = vec![parser.and()?];
            while parser.word("or") {
                terms.push(parser.and()?);
            }
            Ok(chained(terms, Expr::Or))
        })
    }

    fn and(&mut self) -> Parsed {
        let mut terms = vec![self.not()?];
        while self.word("and") {
            terms.push(self.not()?);
        }
        Ok(chained(terms, Expr::And))
    }

    /// A chain of arithmetic nests to the left, one level a link, and chains nest in each other: whoever walks them recurses as deep as
    /// all of them together.
    fn link(&mut self) -> Result<(), ExpressionError> {
        self.links += 1;
        if self.links > LINKS_MAX { Err(self.error("chained too long")) } else { Ok(()) }
    }

    fn not(&mut self) -> Parsed {
        if self.word("not") {
            return self.deeper(|parser| Ok(Expr::Not(Box::new(parser.not()?))));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Parsed {
        let left = self.sum()?;
        let symbols = [
            ("==", BinaryOp::Equal),
            ("!=", BinaryOp::NotEqual),
            ("<=", BinaryOp::LessOrEqual),
            (">=", BinaryOp::GreaterOrEqual),
            ("<", BinaryOp::Less),
            (">", BinaryOp::Greater),
        ];
        for (symbol, op) in symbols {
            if self.symbol(symbol) {
                return Ok(Expr::Binary(op, Box::new(left), Box::new(self.sum()?)));
            }
        }
        if self.word("in") {
            return Ok(Expr::Binary(BinaryOp::In, Box::new(left), Box::new(self.sum()?)));
        }
        if self.word("not") {
            if !self.word("in") {
                return Err(self.error("expected `in`"));
            }
            return Ok(Expr::Binary(BinaryOp::NotIn, Box::new(left), Box::new(self.sum()?)));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        loop {
            let op = if self.symbol("+") {
                BinaryOp::Add
            } else if self.symbol("-") {
                BinaryOp::Subtract
            } else {
                return Ok(left);
            };
            self.link()?;
            left = Expr::Binary(op, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.unary()?;
        loop {
            let op = if self.symbol("*") {
                BinaryOp::Multiply
            } else if self.symbol("/") {
                BinaryOp::Divide
            } else if self.symbol("%") {
                BinaryOp::Remainder
            } else {
                return Ok(left);
            };
            self.link()?;
            left = Expr::Binary(op, Box::new(left), Box::new(self.unary()?));
        }
    }

    fn unary(&mut self) -> Parsed {
        if self.symbol("-") {
            return self.deeper(|parser| Ok(Expr::Negate(Box::new(parser.unary()?))));
        }
        self.primary()
    }

    fn primary(&mut self) -> Parsed {
        self.skip_space();
        match self.rest().chars().next() {
            None => Err(self.error("unexpected end")),
            Some('(') => {
                self.at += 1;
                let inner = self.or()?;
                self.expect(")")?;
                Ok(inner)
            }
            Some('[') => {
                self.at += 1;
                Ok(Expr::List(self.items("]")?))
            }
            Some('"' | '\'') => Ok(Expr::Literal(Value::String(self.string()?))),
            Some('0'..='9') => self.number(),
            _ => self.named(),
        }
    }

    fn items(&mut self, end: &str) -> Result<Vec<Expr>, ExpressionError> {
        let mut items = Vec::new();
        if self.symbol(end) {
            return Ok(items);
        }
        loop {
            items.push(self.or()?);
            if self.symbol(end) {
                return Ok(items);
            }
            self.expect(",")?;
        }
    }

    fn number(&mut self) -> Parsed {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let digits = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let mut end = digits(0);
        if bytes.get(end) == Some(&b'.') && digits(end + 1) > end + 1 {
            end = digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if digits(end + 1 + sign) > end + 1 + sign {
                end = digits(end + 1 + sign);
            }
        }
        let number = Number::parse(&rest[..end]);
        self.at += end;
        Ok(Expr::Literal(Value::Number(number)))
    }

    fn string(&mut self) -> Result<String, ExpressionError> {
        let mut out = String::new();
        let mut chars = self.rest().char_indices();
        let quote = chars.next().map_or('"', |(_, quote)| quote);
        while let Some((at, char)) = chars.next() {
            if char == quote {
                self.at += at + 1;
                return Ok(out);
            }
            if char != '\\' {
                out.push(char);
                continue;
            }
            match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, 'b')) => out.push('\u{8}'),
                Some((_, 'f')) => out.push('\u{c}'),
                Some((_, 'u')) => {
                    let hex4 = |chars: &mut std::str::CharIndices<'_>| {
                        (0..4).try_fold(0_u32, |code, _| Some(code * 16 + chars.next()?.1.to_digit(16)?))
                    };
                    let Some(mut code) = hex4(&mut chars) else { return Err(self.error("malformed escape in a string")) };
                    // What is beyond 16 bits is escaped as two halves.
                    let mut ahead = chars.clone();
                    if (0xd800..0xdc00).contains(&code)
                        && (ahead.next().map(|(_, char)| char), ahead.next().map(|(_, char)| char)) == (Some('\\'), Some('u'))
                        && let Some(low) = hex4(&mut ahead).filter(|low| (0xdc00..0xe000).contains(low))
                    {
                        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                        chars = ahead;
                    }
                    out.push(char::from_u32(code).unwrap_or('\u{fffd}'));
                }
                Some((_, other)) => out.push(other),
                None => break,
            }
        }
        Err(self.error("unfinished string"))
    }

    fn named(&mut self) -> Parsed {
        let word = self.peek_word().to_owned();
        if word.is_empty() {
            return Err(self.error("expected a value"));
        }
        let start = self.at;
        self.at += word.len();
        match word.as_str() {
            "true" => return Ok(Expr::Literal(Value::Bool(true))),
            "false" => return Ok(Expr::Literal(Value::Bool(false))),
            "null" => return Ok(Expr::Literal(Value::Null)),
            "undefined" => return Ok(Expr::Undefined),
            _ => {}
        }
        let scope = match word.as_str() {
            "properties" => Some(Scope::Properties),
            "user" => Some(Scope::User),
            "event" => Some(Scope::Event),
            "group_properties" => Some(Scope::Group),
            _ => None,
        };
        if let Some(scope) = scope {
            self.expect("[")?;
            self.skip_space();
            if !self.rest().starts_with(['"', '\'']) {
                return Err(self.error("expected a property's name in quotes"));
            }
            let name = self.string()?;
            self.expect("]")?;
            return Ok(Expr::Property(scope, name));
        }
        let (function, arguments) = match word.as_str() {
            "boolean" => (Function::Boolean, 1),
            "number" => (Function::Number, 1),
            "string" => (Function::String, 1),
            "datetime" => (Function::Datetime, 1),
            "list" => (Function::List, 1),
            "floor" => (Function::Floor, 1),
            "round" => (Function::Round, 1),
            "ceil" => (Function::Ceil, 1),
            "defined" => (Function::Defined, 1),
            "has_prefix" => (Function::HasPrefix, 2),
            _ => {
                self.at = start;
                return Err(self.error(&format!("unknown name `{word}`")));
            }
        };
        self.expect("(")?;
        let given = self.items(")")?;
        if given.len() != arguments {
            self.at = start;
            return Err(self.error(&format!("`{word}` takes {arguments} argument(s), got {}", given.len())));
        }
        Ok(Expr::Call(function, given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `contract/read.md` 4.1: collected from clients.
    #[test]
    fn real_expressions_parse() {
        for text in [
            r#"properties["$last_seen"] >= "2024-01-01T00:00:00""#,
            r#"event["$time"] >= datetime("2020-01-01T00:00:00")"#,
            r#"properties["$time"]>=datetime(1546300800)"#,
            r#"properties["account_id"] in [1,2,3,4]"#,
            r#""pro" in properties["plan"]"#,
            r#"(properties["a"] == "x" or properties["a"] == "y") and defined(properties["b"])"#,
            r#"not defined(properties["city"])"#,
            r#"(properties["Board id"] == "x") and ((properties["A"] == "y") or (properties["A"] == "z"))"#,
            r#"string(properties["x"])"#,
            r#"boolean(properties["signed up"])"#,
            r#"properties['a'] not in ["x"]"#,
            r#"has_prefix(string(user["x"]),"2016")"#,
            r#"group_properties["plan"] == "pro""#,
            "1.5e3 + -2 * 3 % 4",
        ] {
            assert!(parse(text).is_ok(), "{text}: {:?}", parse(text));
        }
    }

    #[test]
    fn errors_name_the_place() {
        assert_eq!(parse(r#"plan == "x""#).unwrap_err().to_string(), "unknown name `plan` at character 1");
        assert_eq!(parse(r#"properties["a" > 1"#).unwrap_err().to_string(), "expected `]` at character 16");
        assert!(parse("properties[]").is_err() && parse("1 +").is_err() && parse("").is_err() && parse("\"a").is_err());
        assert!(parse(&"(".repeat(300)).is_err());
        let chain = "+1".repeat(600);
        assert!(parse(&format!("1{chain}")).is_ok() && parse(&format!("(1{chain}){chain}")).is_err(), "chains add up");
        assert_eq!(parse(r#""\ud83d\ude00""#), Ok(Expr::Literal(Value::from("😀"))));
    }

    #[test]
    fn not_binds_weaker_than_in() {
        let inner = Expr::Binary(
            BinaryOp::In,
            Box::new(Expr::Literal(Value::from("x"))),
            Box::new(Expr::Property(Scope::Properties, "a".to_owned())),
        );
        assert_eq!(parse(r#"not "x" in properties["a"]"#).unwrap(), Expr::Not(Box::new(inner)));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[a-z\"'()\\[\\]+*/%<>=! 0-9.\\\\é]{0,60}") {
            let _ = parse(&text);
        }
    }
}
