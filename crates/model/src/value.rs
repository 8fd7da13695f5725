//! Property values as clients send them. What was sent comes back unchanged, numbers beyond 2^53 included.

use indexmap::IndexMap;

/// Properties in the order in which they were sent.
pub type Properties = IndexMap<String, Value, ahash::RandomState>;

/// A property value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An explicit null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number, exactly as sent.
    Number(Number),
    /// A string.
    String(String),
    /// A list.
    List(Vec<Value>),
    /// An object.
    Object(Properties),
}

/// A number that remembers its spelling wherever a machine type would lose it.
#[derive(Debug, Clone, PartialEq)]
pub enum Number {
    /// An integer whose decimal spelling is what was sent.
    Int(i64),
    /// A double whose shortest spelling (as `{:?}` prints it) is what was sent.
    Float(f64),
    /// Any other spelling: more digits than a double holds, `1e5`, `1.50`.
    Text(Box<str>),
}

/// A property value that lives elsewhere, perhaps in a column of values of one type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    /// A string.
    Text(&'a str),
    /// An integer.
    Int(i64),
    /// A double.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// Any other value.
    Other(&'a Value),
}

impl<'a> From<&'a Value> for ValueRef<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text),
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Number(Number::Int(int)) => Self::Int(*int),
            Value::Number(Number::Float(float)) => Self::Float(*float),
            other => Self::Other(other),
        }
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Text(text) => Self::from(text),
            ValueRef::Int(int) => Self::from(int),
            ValueRef::Float(float) => Self::from(float),
            ValueRef::Bool(flag) => Self::Bool(flag),
            ValueRef::Other(value) => value.clone(),
        }
    }
}

impl Number {
    /// Reads a JSON number. The caller promises that `text` is one.
    pub fn parse(text: &str) -> Self {
        if let Ok(int) = text.parse::<i64>()
            && int.to_string() == text
        {
            return Self::Int(int);
        }
        if let Ok(float) = text.parse::<f64>()
            && float.is_finite()
            && text.contains('.')
            && format!("{float:?}") == text
        {
            return Self::Float(float);
        }
        Self::Text(text.into())
    }

    /// The nearest double; infinite beyond 1.8e308.
    pub fn as_f64(&self) -> f64 {
        match self {
            // Every expression of the wire calculates in doubles (`contract/read.md` 4.2).
            Self::Int(int) => *int as f64,
            Self::Float(float) => *float,
            Self::Text(text) => text.parse().unwrap_or(f64::NAN),
        }
    }

    /// The sum: exact between integers, in doubles otherwise; `None` where it is beyond them.
    pub fn plus(&self, other: &Self) -> Option<Self> {
        if let (Self::Int(a), Self::Int(b)) = (self, other)
            && let Some(sum) = a.checked_add(*b)
        {
            return Some(Self::Int(sum));
        }
        let whole = |number: &Self| number.text().parse::<i128>().ok();
        if let Some(sum) = whole(self).zip(whole(other)).and_then(|(a, b)| a.checked_add(b)) {
            return Some(Self::parse(&sum.to_string()));
        }
        Some(self.as_f64() + other.as_f64()).filter(|sum| sum.is_finite()).map(Self::from_f64)
    }

    /// Whether both are one number, however they are spelled.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a == b,
            _ => {
                self == other || {
                    let (a, b) = (self.as_f64(), other.as_f64());
                    // Beyond 2^53 doubles fall together: there the spelling decides.
                    a == b && a.abs() < 9_007_199_254_740_992.0
                }
            }
        }
    }

    /// A calculated number: an integer where it is integral and exact, else a double. Not finite becomes 0.
    pub fn from_f64(value: f64) -> Self {
        if !value.is_finite() {
            Self::Int(0)
        } else if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
            Self::Int(value as i64)
        } else {
            Self::parse(&format!("{value:?}"))
        }
    }

    /// The spelling that was sent.
    pub fn text(&self) -> String {
        match self {
            Self::Int(int) => int.to_string(),
            Self::Float(float) => format!("{float:?}"),
            Self::Text(text) => text.to_string(),
        }
    }
}

impl Value {
    /// The string inside, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether both are one value: numbers by what they are, not by their spelling.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.same(b),
            (Self::List(a), Self::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Self::Object(a), Self::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| value.same(other)))
            }
            _ => self == other,
        }
    }

    /// The object inside, if it is one.
    pub fn as_object(&self) -> Option<&Properties> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The number inside as a double, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number.as_f64()),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(int: i64) -> Self {
        Self::Number(Number::Int(int))
    }
}

impl From<f64> for Value {
    fn from(float: f64) -> Self {
        Self::Number(Number::Float(float))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_the_spelling_that_was_sent() {
        for text in [
            "0",
            "-1",
            "9007199254740993",
            "18446744073709551616",
            "1.5",
            "1.50",
            "1e5",
            "1.0",
            "-0",
            "-0.0",
            "1e400",
            "1700000000.123",
            "1e16",
            "10000000000000000.0",
        ] {
            assert_eq!(Number::parse(text).text(), text);
        }
    }
}
