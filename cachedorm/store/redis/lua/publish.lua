-- PUBLISH: put the value where my lease still stands.
--
-- KEYS   entry, then its stamps
-- ARGV   token, slot, ttl_ms
-- Reply  1 if published, 0 if the lease was gone
--
-- Whoever made the entry doubtful since ACQUIRE took the lease away (or a stamp, and then what is
-- put here cannot be served), so a row read before a commit is never stored after it.
if redis.pcall('GET', KEYS[1]) ~= 'L' .. ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
-- A stamp that ended before its entries would only cost misses; it is kept as long as they are.
local ttl_ms = tonumber(ARGV[3])
for i = 2, #KEYS do
  local left = redis.call('PTTL', KEYS[i])
  if left ~= -2 and left < ttl_ms then redis.call('PEXPIRE', KEYS[i], ttl_ms) end
end
return 1
