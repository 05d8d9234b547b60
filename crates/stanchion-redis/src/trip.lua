-- Takes one instance's report on an upstream; answers what the fleet makes of it.
--
-- KEYS[1]   a hash: for each instance "until:open:calls:failed", until in
--           microseconds; `generation` and `open` of the fleet
-- ARGV[1]   the time in microseconds, or 0 for the server's own
-- ARGV[2]   milliseconds to keep the key beyond its reports
-- ARGV[3]   the instance
-- ARGV[4]   whether it is open: 1 or 0
-- ARGV[5,6] its calls, and those that failed
-- ARGV[7]   how long the report counts, in microseconds
-- ARGV[8..] the quorum: instances, share, rate (both in millionths), failures
--
-- All numbers are integers below 2^53, which Lua's floating-point numbers hold
-- exactly. Returns the live instances, whether the fleet is open (1 or 0), and its
-- generation.
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local me, keep = ARGV[3], tonumber(ARGV[7])
local instances, share = tonumber(ARGV[8]), tonumber(ARGV[9])
local rate, wanted = tonumber(ARGV[10]), tonumber(ARGV[11])

local generation, was_open = 0, false
local live, open, against, failures = 0, 0, 0, 0
local latest = now + keep
local dead = {}

local function count(is_open, calls, failed)
  live = live + 1
  if is_open then
    open = open + 1
  end
  if is_open or (failed > 0 and failed * 1000000 >= rate * calls) then
    against = against + 1
    failures = failures + failed
  end
end

local others = 0
local state = redis.call('HGETALL', KEYS[1])
for i = 1, #state, 2 do
  local field, value = state[i], state[i + 1]
  if field == 'generation' then
    generation = tonumber(value)
  elseif field == 'open' then
    was_open = value == '1'
  else
    local until_, is_open, calls, failed = string.match(value, '^(%d+):([01]):(%d+):(%d+)$')
    if not until_ then
      return redis.error_reply('ERR not the state of a fleet: ' .. KEYS[1])
    end
    until_ = tonumber(until_)
    if until_ <= now then
      dead[#dead + 1] = field
    else
      others = others + 1
      if field ~= me then
        latest = math.max(latest, until_)
        count(is_open == '1', tonumber(calls), tonumber(failed))
      end
    end
  end
end
for _, field in ipairs(dead) do
  redis.call('HDEL', KEYS[1], field)
end
if others == 0 then
  generation, was_open = 0, false
end
count(ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6]))

local function enough(number)
  return number >= instances and number * 1000000 >= share * live
end
local is_open = enough(open) or (enough(against) and failures >= wanted)
if is_open and not was_open then
  generation = generation + 1
end
local report = string.format('%.0f', now + keep) .. ':' .. ARGV[4] .. ':' .. ARGV[5] .. ':' .. ARGV[6]
redis.call('HSET', KEYS[1], me, report, 'generation', generation, 'open', is_open and 1 or 0)
redis.call('PEXPIRE', KEYS[1], math.ceil((latest - now) / 1000) + ARGV[2])
return { live, is_open and 1 or 0, generation }
