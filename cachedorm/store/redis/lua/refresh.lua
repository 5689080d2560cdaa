-- REFRESH: the right to replace a value, for one of those who are served it meanwhile.
--
-- KEYS   refresh lease, entry
-- ARGV   token, lease_ms, sha1 of the slot that the caller saw
-- Reply  {'granted'}             the lease is placed, now read the database
--        {'held', remaining_ms}  somebody else refreshes
--        {'refused'}             something else stands at the entry now
local lease, mine, lease_ms = KEYS[1], 'L' .. ARGV[1], ARGV[2]

-- Whoever read before the last refresh ended would else do it over again.
local slot = redis.pcall('GET', KEYS[2])
if type(slot) ~= 'string' or redis.sha1hex(slot) ~= ARGV[3] then return {'refused'} end

if redis.call('SET', lease, mine, 'NX', 'PX', lease_ms) then return {'granted'} end
-- My own lease: the reply to this very call was lost, and it is asked again.
if redis.pcall('GET', lease) == mine then return {'granted'} end
local left = redis.call('PTTL', lease)
if left < 0 then
  redis.call('PEXPIRE', lease, lease_ms)
  left = tonumber(lease_ms)
end
return {'held', left}
