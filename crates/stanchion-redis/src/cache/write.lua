-- Stores a value: under a lease, or in place of any other.
--
-- ARGV[3]  the lease's fence; 0 for none
-- ARGV[4]  how long it is fresh
-- ARGV[5]  how long it is there
-- ARGV[6]  the value
-- ARGV[7]  its tags
-- ARGV[8]  the channel on which to tell it, if it is under no lease
-- ARGV[9]  what to tell
--
-- Returns 1, or 0 if the lease doesn't allow it.
local fresh, keep, bytes, tags = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7]
local mark, ahead
if ARGV[3] == '0' then
  mark = next_mark()
  ahead = mark - now
else
  mark, ahead = standing()
  if mark ~= ARGV[3] then
    return 0
  end
  mark = tonumber(mark)
  if void(tags, mark) then
    call('DEL', LEASE)
    return 0
  end
end

-- Whatever needs room comes first: without it nothing is changed.
local left = mark - ahead + keep - now
if left > 0 then
  local head = format('%d:%d:%d:%d:%d:%d:', mark, ahead, fresh, keep, #tags, #bytes)
  call('SET', ENTRY, head .. tags .. bytes, 'PX', kept(left))
  -- The ledger outlives it.
  call('PEXPIRE', LEDGER, kept(LONGEST))
else
  call('DEL', ENTRY)
end
call('DEL', LEASE)
if ARGV[3] == '0' then
  call('PUBLISH', ARGV[8], ARGV[9])
end
return 1
