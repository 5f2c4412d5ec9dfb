-- Read the newest layout of the shard, and count its strays. Or replace the layout.
--
-- KEYS[1] meta   HASH  counters, layout
-- KEYS[2] tasks  HASH  id -> record
--
-- ARGV[1] layout      taken over if it is newer than the shard's; '' to read only
-- ARGV[2] instead_of  the only layout that it may replace; left out, it may replace any that is older
--
-- Returns the newest layout ('' if there is none), and how many tasks were offered with an older one.
-- Keeps: the layout of a shard never becomes older. A change that was made from another layout than the one
-- that is there changes nothing, so no number by which tasks were placed is forgotten.
-- Uses: _layout.lua

if ARGV[2] == nil or ARGV[2] == layout_now() then
  agree_on(ARGV[1])
end
return {layout_now(), tonumber(redis.call('HGET', key.meta, 'strays') or 0)}
