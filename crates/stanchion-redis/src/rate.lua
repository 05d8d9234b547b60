-- Takes a cost from several token buckets, or from none.
--
-- KEYS       one bucket each, all in one hash slot
-- ARGV[1]    the time in microseconds, or 0 for the server's own
-- ARGV[2]    milliseconds to keep a key beyond its debt
-- then for each bucket
--   parts    ticks in a microsecond
--   cost     whole microseconds, and ticks beyond
--   capacity whole microseconds, and ticks beyond
--
-- A bucket's state is the time at which it is full: "microseconds", or
-- "microseconds:ticks:parts" where ticks are left over. All numbers are integers
-- below 2^53, which Lua's floating-point numbers hold exactly.
--
-- Returns whether the cost was taken (1 or 0), then each bucket's debt, in
-- whole microseconds and ticks beyond: after taking, or as it stands.
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local taken = 1
local reply = {}
local costs = false
for i = 1, #KEYS do
  local at = 5 * i - 2
  local parts = tonumber(ARGV[at])
  local cost, cost_ticks = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  costs = costs or cost > 0 or cost_ticks > 0

  local debt, ticks = 0, 0
  local state = redis.call('GET', KEYS[i])
  if state then
    local full = tonumber(state)
    if not full then
      local whole, left, of = string.match(state, '^(%d+):(%d+):(%d+)$')
      if not whole then
        return redis.error_reply('ERR not the state of a rate limit: ' .. KEYS[i])
      end
      full, ticks = tonumber(whole), tonumber(left)
      if tonumber(of) ~= parts then
        -- Another quota's ticks: rounded up, towards refusal.
        full, ticks = full + 1, 0
      end
    end
    debt = full - now
    if debt < 0 then
      debt, ticks = 0, 0
    end
  end

  local sum, sum_ticks = debt + cost, ticks + cost_ticks
  if sum_ticks >= parts then
    sum, sum_ticks = sum + 1, sum_ticks - parts
  end
  local capacity, capacity_ticks = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  if sum > capacity or (sum == capacity and sum_ticks > capacity_ticks) then
    if costs then
      taken = 0
    end
    local most = capacity + 1000000
    if costs and (debt > most or (debt == most and ticks > capacity_ticks)) then
      -- More than the bucket and a second's tolerance can owe: a clock has
      -- stepped back, or the quota was larger. As if it were empty now.
      debt, ticks = capacity, capacity_ticks
      local full = string.format('%.0f', now + debt)
      if ticks > 0 then
        full = full .. ':' .. ticks .. ':' .. parts
      end
      redis.call('SET', KEYS[i], full, 'PX', math.floor(debt / 1000) + 1 + ARGV[2])
    end
    sum, sum_ticks = false, false
  end
  reply[4 * i - 3], reply[4 * i - 2] = debt, ticks
  reply[4 * i - 1], reply[4 * i] = sum, sum_ticks
end

local answer = { taken }
for i = 1, #KEYS do
  if taken == 1 and costs then
    local sum, ticks = reply[4 * i - 1], reply[4 * i]
    local full = now + sum
    if ticks > 0 then
      full = string.format('%.0f', full) .. ':' .. ticks .. ':' .. ARGV[5 * i - 2]
    end
    redis.call('SET', KEYS[i], full, 'PX', math.floor(sum / 1000) + 1 + ARGV[2])
    answer[2 * i], answer[2 * i + 1] = sum, ticks
  else
    answer[2 * i], answer[2 * i + 1] = reply[4 * i - 3], reply[4 * i - 2]
  end
end
return answer
