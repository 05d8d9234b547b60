-- IdempotencyStore::claim as one script.
-- KEYS[1] the record, KEYS[2] the fence counter, one hash slot
-- ARGV    fingerprint, lease in ms, retention in ms, server time in ms for tests or 0
-- Returns {'fresh', fence, after a lost claim} | {'replay', kind, bytes}
--       | {'in_flight', ms left} | {'mismatch'}
local now = tonumber(ARGV[4])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local lost = 0
local record = redis.call('HMGET', KEYS[1], 'fingerprint', 'kind', 'bytes', 'until')
if record[1] then
  if record[1] ~= ARGV[1] then
    return { 'mismatch' }
  end
  if record[2] then
    return { 'replay', record[2], record[3] }
  end
  local left = record[4] - now
  if left > 0 then
    return { 'in_flight', left }
  end
  lost = 1
end
local kept = ARGV[2] + ARGV[3]
local fence = redis.call('INCR', KEYS[2])
-- The counter outlives every record that it has numbered, so that fences only grow.
redis.call('PEXPIRE', KEYS[2], 2 * kept)
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'fence', fence, 'until', now + ARGV[2])
redis.call('PEXPIRE', KEYS[1], kept)
return { 'fresh', fence, lost }
