-- What all scripts on a cache begin with.
--
-- KEYS[1]  the ledger of a part of the cache: a sorted set of what was invalidated, and when.
--          `latest` is the greatest mark so far, `cleared` that of the last clearing, and for
--          each invalidated tag there is one. Without a ledger no value is valid.
-- KEYS[2]  the entry, a string: "mark:ahead:fresh:keep:length of tags:length:" tags value
-- KEYS[3]  the lease, a string: "mark:ahead:until"
-- ARGV[1]  the time in microseconds, or 0 for the server's own
-- ARGV[2]  milliseconds to keep a key beyond what it holds
--
-- A mark is a number that grows with each grant, insertion and invalidation in the ledger: the
-- time, or more where two fall together or a clock has stepped back. What is compared are
-- marks, what ages are times: a mark is `ahead` of its time by so many microseconds.
--
-- Times are in microseconds. All numbers are integers below 2^53, which Lua's floating-point
-- numbers hold exactly. What somebody else has put under our keys is read as if it
-- weren't there, and written over.
local call, try, format, match = redis.call, redis.pcall, string.format, string.match
local LEDGER, ENTRY, LEASE = KEYS[1], KEYS[2], KEYS[3]
-- Thirty days: nothing is kept for longer.
local LONGEST = 2592000000000

local now, grace = tonumber(ARGV[1]), tonumber(ARGV[2])
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- A number that may be ours; nil for anything else.
local function number(text)
  local value = text and tonumber(text)
  return value and value >= 0 and value < 9007199254740992 and value % 1 == 0 and value or nil
end

-- The milliseconds to keep what is worth something for so long.
local function kept(left)
  return format('%d', math.ceil(left / 1000) + grace)
end

local latest, cleared
local marks = try('ZMSCORE', LEDGER, 'latest', 'cleared')
if not marks.err then
  latest, cleared = number(marks[1]), number(marks[2])
end
-- Of the year 2255, there is no room for many more.
if not (latest and cleared and cleared <= latest) or latest >= 9000000000000000 then
  latest, cleared = nil, nil
end

-- A mark greater than any before. It outlives whatever bears it.
local function next_mark()
  local fresh = not latest
  if fresh then
    call('DEL', LEDGER)
    latest, cleared = now, now
  end
  latest = math.max(now, latest + 1)
  if fresh then
    call('ZADD', LEDGER, format('%d', cleared), 'cleared', format('%d', latest), 'latest')
  else
    call('ZADD', LEDGER, format('%d', latest), 'latest')
  end
  call('PEXPIRE', LEDGER, kept(LONGEST))
  return latest
end

-- What a tag is called in the ledger.
local function member(tag)
  return #tag > 128 and 'h' .. redis.sha1hex(tag) or 't' .. tag
end

-- Whether one of these tags, each "length:text", was invalidated since the mark; or there
-- is something else in their place.
local function void(tags, mark)
  local members, position = {}, 1
  while position <= #tags do
    local length, first = match(tags, '^(%d+):()', position)
    length = number(length)
    if not length or first + length - 1 > #tags then
      return true
    end
    members[#members + 1] = member(string.sub(tags, first, first + length - 1))
    position = first + length
  end
  for first = 1, #members, 100 do
    for _, stamp in ipairs(call('ZMSCORE', LEDGER, unpack(members, first, math.min(first + 99, #members)))) do
      if stamp and tonumber(stamp) > mark then
        return true
      end
    end
  end
  return false
end

-- The lease that stands: its mark as it is written, by how much it is ahead, its end.
local function standing()
  local text = try('GETRANGE', LEASE, 0, 63)
  if type(text) ~= 'string' or not cleared then
    return
  end
  local mark, ahead, ends = match(text, '^(%d+):(%d+):(%d+)$')
  ahead, ends = number(ahead), number(ends)
  if ahead and ends and number(mark) and tonumber(mark) > cleared and ends > now and ends <= now + LONGEST then
    return mark, ahead, ends
  end
end

-- `ends` is no more than LONGEST from now.
local function lend(mark, ahead, ends)
  call('SET', LEASE, format('%s:%d:%d', mark, ahead, ends), 'PX', kept(ends - now))
end
