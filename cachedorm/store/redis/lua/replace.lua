-- REPLACE: put a value over the one that its refresher saw.
--
-- KEYS   refresh lease, then entry, its intents, then for each stamp: stamp, its intents
-- ARGV   token, sha1 of the slot that the refresher saw, slot, ttl_ms ('' = the key's own)
-- Reply  1 if it stands there now, else 0
--
-- The database was read after the lease was placed, and the old value was seen before that. If it
-- still stands, with its stamps, nobody has made it doubtful since: every commit that the new value
-- could lack would have taken the one or the others away.
local HEADER, STAMP = 36, 16
local lease, entry, slot, ttl_ms = KEYS[1], KEYS[2], ARGV[3], ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Its holder was too slow: another may be at it with what the database says now.
if redis.pcall('GET', lease) ~= 'L' .. ARGV[1] then return 0 end
local seen = redis.pcall('GET', entry)
if type(seen) ~= 'string' or redis.sha1hex(seen) ~= ARGV[2] then return 0 end
for i = 3, #KEYS, 2 do
  local live = redis.pcall('ZCOUNT', KEYS[i], '(' .. now, '+inf')
  if type(live) == 'number' and live > 0 then return 0 end
end
for i = 4, #KEYS, 2 do
  local from = HEADER + STAMP * (i / 2 - 2) + 1
  if redis.pcall('GET', KEYS[i]) ~= slot:sub(from, from + STAMP - 1) then return 0 end
end

if ttl_ms == '' then
  redis.call('SET', entry, slot, 'KEEPTTL')
else
  redis.call('SET', entry, slot, 'PX', ttl_ms)
  -- A stamp that ended before its entries would only cost misses; it is kept as long as they are.
  for i = 4, #KEYS, 2 do
    if redis.call('PTTL', KEYS[i]) < tonumber(ttl_ms) then
      redis.call('PEXPIRE', KEYS[i], ttl_ms)
    end
  end
end
redis.call('UNLINK', lease)
return 1
