-- Renews a lease, or gives it back.
--
-- ARGV[3]  its fence
-- ARGV[4]  how long it is to stand from now; -1 to give it back
--
-- Returns 1 if the fence held it, else 0.
local mark, ahead = standing()
if mark ~= ARGV[3] then
  return 0
end
local duration = tonumber(ARGV[4])
if duration < 0 then
  call('DEL', LEASE)
else
  lend(mark, ahead, now + duration)
end
return 1
