-- How many devices of one network wait is counted at every new one, without those that are over. What was never used is thrown away when
-- its time is over; what was used stays for a day.

CREATE INDEX device_codes_waiting ON device_codes (address, expires_at);
CREATE INDEX device_codes_unused ON device_codes (expires_at) WHERE stage <> 'used';
DROP INDEX device_codes_of_address;
