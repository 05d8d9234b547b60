-- IdempotencyStore::complete under a fence, as one script.
-- KEYS[1] the record, KEYS[2] the fence counter, one hash slot
-- ARGV    fence, kind, bytes, retention in ms
-- Returns 'done' | 'expired' | 'superseded'
local record = redis.call('HMGET', KEYS[1], 'fence', 'kind')
if not record[1] then
  return 'expired'
end
if record[1] ~= ARGV[1] or record[2] then
  return 'superseded'
end
redis.call('HSET', KEYS[1], 'kind', ARGV[2], 'bytes', ARGV[3])
redis.call('HDEL', KEYS[1], 'until')
-- Never shortened: what is kept longer already stays so.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
-- The counter outlives the record, so that fences only grow.
if redis.call('PTTL', KEYS[2]) < 2 * ARGV[4] then
  redis.call('PEXPIRE', KEYS[2], 2 * ARGV[4])
end
return 'done'
