-- The browser in which someone was signed in when a client got its code, by its cookie: who signs out there is signed out of what it gave.
-- Rows of before, and of pods of the version before, have none.

ALTER TABLE codes ADD COLUMN browser_sha256 BLOB;
ALTER TABLE sessions ADD COLUMN browser_sha256 BLOB;
