-- RELEASE: give up a lease without publishing.
--
-- KEYS   entry
-- ARGV   token
-- Reply  1 if it was still there, else 0 (somebody else's lease, an intent or a value stays)
if redis.pcall('GET', KEYS[1]) ~= 'L' .. ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
