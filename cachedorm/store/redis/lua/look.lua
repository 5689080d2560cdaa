-- LOOK: what is cached by anybody, for a writer about to commit, or just after it.
--
-- KEYS   the registry
-- ARGV   the version the caller knows ('' = none), a new version, grace (ms)
-- Reply  {version, grown} if it knows this one, else {version, grown, interest...}
--        grown: 1 once the registry is older than the grace, else 0
local KEEP_MS = 30 * 24 * 3600 * 1000
local registry, seen, grace_ms = KEYS[1], ARGV[1], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local version = redis.pcall('HGET', registry, '~version')
if type(version) ~= 'string' then
  -- Lost, or never there. It is begun here so that it comes of age even if nobody caches.
  redis.call('UNLINK', registry)
  version = ARGV[2]
  redis.call('HSET', registry, '~version', version, '~born', now)
end
-- As long as anybody writes, what is cached must be found here.
if redis.call('PTTL', registry) < KEEP_MS / 2 then redis.call('PEXPIRE', registry, KEEP_MS) end

local born = tonumber(redis.call('HGET', registry, '~born')) or now
local reply = {version, now > born + grace_ms and 1 or 0}
if version ~= seen then
  for _, interest in ipairs(redis.call('HKEYS', registry)) do
    if interest:sub(1, 1) ~= '~' then reply[#reply + 1] = interest end
  end
end
return reply
