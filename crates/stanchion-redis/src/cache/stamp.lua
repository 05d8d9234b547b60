-- Makes all values of a part of the cache go, or those with a tag.
--
-- ARGV[3]  1 for a tag, 0 for all
-- ARGV[4]  the tag
-- ARGV[5]  the channel on which to tell it, or nothing
-- ARGV[6]  what to tell
local mark = format('%d', next_mark())
call('ZADD', LEDGER, mark, ARGV[3] == '1' and member(ARGV[4]) or 'cleared')

-- What bears a mark of before this is over by itself, or else, since `cleared` says so. A few at
-- a time: each call adds one at most.
local old = format('%d', now - LONGEST)
if cleared < now - LONGEST then
  call('ZADD', LEDGER, 'GT', old, 'cleared')
end
local dead = call('ZRANGEBYSCORE', LEDGER, '-inf', '(' .. old, 'LIMIT', 0, 16)
if #dead > 0 then
  call('ZREM', LEDGER, unpack(dead))
end
if ARGV[5] ~= '' then
  call('PUBLISH', ARGV[5], ARGV[6])
end
return 1
