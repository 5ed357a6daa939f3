-- Distributes the tables of receiver over the workers of a Citus cluster. Run once, after the first start of receiver has made the
-- tables, by the role that owns them; the tables stay where they are for everyone who uses them.
SET search_path = receiver;
SELECT create_distributed_table('devices', 'user_id', colocate_with => 'none');
SELECT create_distributed_table('positions', 'user_id', colocate_with => 'devices');
