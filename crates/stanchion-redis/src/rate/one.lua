-- Takes a cost from one token bucket whose interval is a whole number of
-- microseconds, or doesn't: what the script on any limits does, for the commonest case, in
-- half of its time.
--
-- KEYS[1]  the bucket
-- ARGV     cost and capacity in microseconds; in tests also the time, and the
--          milliseconds to keep the key beyond its debt
--
-- Returns the bucket's debt after taking, in microseconds; or, if the cost was
-- not taken, -1 - the debt as it stands.
local call, format = redis.call, string.format
local now = tonumber(ARGV[3])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

local debt, receipts = 0, ''
local state = call('GET', KEYS[1])
if state then
  local full = tonumber(state)
  if not full then
    local whole, ticks, parts, rest = string.match(state, '^(%d+):(%d+)(:%d+)(.*)$')
    if not whole or not (rest == '' or string.match(rest, '^:%d+:%d+:%d+$')) then
      return redis.error_reply('ERR not the state of a rate limit: ' .. KEYS[1])
    end
    -- Another quota's ticks: rounded up, towards refusal.
    full = whole + (ticks == '0' and 0 or 1)
    if rest ~= '' and full > now then
      -- Receipts are about: what they need stays as it is.
      receipts = ':0' .. parts .. rest
    end
  end
  if full > now then
    debt = full - now
  end
end

local sum = debt + ARGV[1]
if sum == debt then
  return debt
end
local capacity = ARGV[2] + 0
if sum > capacity then
  if debt > capacity + 1000000 then
    -- More than the bucket and a second's tolerance can owe: a clock has stepped
    -- back, or the quota was larger. As if it were empty now.
    debt = capacity
    call('SET', KEYS[1], format('%d', now + debt), 'PX', format('%d', debt / 1000 + 1 + (ARGV[4] or 1000)))
  end
  return -1 - debt
end
-- Formatted here: the server writes a number of Lua's with 17 digits, and slowly.
call('SET', KEYS[1], format('%d', now + sum) .. receipts, 'PX', format('%d', sum / 1000 + 1 + (ARGV[4] or 1000)))
return sum
