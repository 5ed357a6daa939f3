//! The OAuth 2.1 and OpenID Connect issuer: clients, signing keys, sessions, tokens.
