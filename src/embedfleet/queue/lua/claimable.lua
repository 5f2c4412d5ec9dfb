-- Say whether a claim made now would find a task.
--
-- KEYS[1] interactive  ZSET  eligible tenants
-- KEYS[2] bulk         ZSET  eligible tenants
--
-- ARGV[1] lane  the only lane that counts; '' for both
--
-- Returns 1 or 0.
-- Keeps: nothing is changed.

local lane = ARGV[1]
local asking = lane ~= 'bulk' and redis.call('EXISTS', key.interactive) or 0
local waiting = lane ~= 'interactive' and redis.call('EXISTS', key.bulk) or 0
return asking + waiting > 0 and 1 or 0
