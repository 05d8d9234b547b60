-- Removes the value of a key, and voids its lease.
--
-- KEYS[1]  the entry
-- KEYS[2]  the lease
-- ARGV[1]  the channel on which to tell it
-- ARGV[2]  what to tell
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
