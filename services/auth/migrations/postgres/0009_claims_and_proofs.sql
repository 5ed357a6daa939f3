-- Where people are reached, for clients with the scopes `email`, `phone` and `address`.
-- Pods of the version before write names only: the rest stays as it is, or empty.
ALTER TABLE profiles ADD COLUMN email TEXT NOT NULL DEFAULT '';
ALTER TABLE profiles ADD COLUMN email_verified BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE profiles ADD COLUMN phone_number TEXT NOT NULL DEFAULT '';
ALTER TABLE profiles ADD COLUMN phone_number_verified BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE profiles ADD COLUMN address TEXT NOT NULL DEFAULT '';

-- The key to which the tokens of a session are bound, as its thumbprint (RFC 9449, RFC 7638); empty if to none.
ALTER TABLE sessions ADD COLUMN key_thumbprint TEXT NOT NULL DEFAULT '';
