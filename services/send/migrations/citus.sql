-- Distributes the tables of send over the workers of a Citus cluster. Run once, after the first start of send has made the
-- tables, by the role that owns them; the tables stay where they are for everyone who uses them.
SET search_path = send;
SELECT create_distributed_table('conversations', 'conversation_id');
SELECT create_distributed_table('members', 'conversation_id', colocate_with => 'conversations');
SELECT create_distributed_table('events', 'conversation_id', colocate_with => 'conversations');
SELECT create_distributed_table('receipts', 'conversation_id', colocate_with => 'conversations');
SELECT create_distributed_table('memberships', 'user_id', colocate_with => 'none');
SELECT create_distributed_table('people', 'user_id', colocate_with => 'memberships');
