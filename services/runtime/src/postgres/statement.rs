//! The statements of a store that pods share, in one list: each with a name, and with what says where its rows are when the tables are
//! distributed over several servers. The list is there for tests, which have the real server plan every statement.

/// By what a statement finds its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By the conversation, for each of its tables.
    Conversation,
    /// By the person, for each of its tables.
    Person,
    /// By the time: the question for everything that changed lately, which goes to all servers.
    Sweep,
    /// It serves starts and upkeep, and may go to all servers.
    Rare,
}

/// A statement with a name.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    /// Its name.
    pub name: &'static str,
    /// By what it finds its rows.
    pub by: By,
    /// Its text.
    pub text: &'static str,
}

/// Makes a constant of each statement, `By NAME = text;`, and for tests the list `ALL` of them.
#[macro_export]
macro_rules! statements {
    ($($(#[$doc:meta])* $by:ident $name:ident = $text:expr;)*) => {
        $($(#[$doc])* pub(super) const $name: &str = $text;)*
        #[cfg(test)]
        pub(super) const ALL: &[$crate::postgres::Statement] = &[$($crate::postgres::Statement {
            name: stringify!($name),
            by: $crate::postgres::By::$by,
            text: $text,
        }),*];
    };
}
