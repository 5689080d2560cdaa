-- CLEAR: take stamps away, all in one moment, and with them every entry that carries one.
--
-- KEYS   stamps (any number: one UNLINK of them all could exceed what Lua unpacks)
-- Reply  how many there were
local gone = 0
for i = 1, #KEYS do gone = gone + redis.call('UNLINK', KEYS[i]) end
return gone
