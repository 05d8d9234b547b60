-- What both scripts on any limits begin with. After it come the rules, each a table of small
-- functions in a file of its own, and then what is to be done.
--
-- KEYS       one for each limit, all in one hash slot
-- ARGV[1]    the time in microseconds, or 0 for the server's own
-- ARGV[2]    milliseconds to keep a key beyond its state
-- ARGV[3]    how it is asked: 0 exactly, 1 up to, 2 overdraw
-- ARGV[4]    the units
-- ARGV[5]    a number that no other call has, where a receipt is wanted; else 0
-- then for each limit its rule, by number, and the rule's columns
--
-- Times are in microseconds. All numbers are integers below 2^53, which Lua's
-- floating-point numbers hold exactly; what might be more is in two parts.
local call, floor, format, match = redis.call, math.floor, string.format, string.match

local now, grace = tonumber(ARGV[1]), tonumber(ARGV[2])
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
local ask, units, nonce = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local UP_TO, OVERDRAW = 1, 2
-- A clock may be this far behind a state.
local TOLERANCE = 1000000
-- The first limit's place.
local FIRST = 6

local function not_ours(key)
  return redis.error_reply('ERR not the state of a rate limit: ' .. key)
end

-- For how many milliseconds to keep what is worth something for so long.
local function kept(left)
  return format('%d', floor(left / 1000) + 1 + grace)
end

-- How many of a rule's units there may be.
local function most(limit)
  return ask == OVERDRAW and limit.most or limit.limit
end

-- What makes each rule, by number: only those that are asked for are made.
local define, rules = {}, {}
local function rule_of(number)
  rules[number] = rules[number] or define[number]()
  return rules[number]
end
