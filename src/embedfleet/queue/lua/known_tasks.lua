-- Say which tasks this shard has, in any state, before they are offered to another one.
--
-- KEYS[1] meta   HASH  counters, layout
-- KEYS[2] tasks  HASH  id -> record
--
-- ARGV[1] layout      of the caller
-- ARGV[2..] task_ids  at most 1,000
--
-- Returns '' or, if it is newer than the caller's, the layout; then 1 or 0 for each task.
-- Keeps: from now on the shard refuses offers that are made with an older layout than the caller's. So a task
-- that it does not have now cannot come by one of these.
-- Uses: _layout.lua

local agreed, held = agree_on(ARGV[1])
local answer = {agreed and '' or held}
for i = 2, #ARGV do
  answer[i] = redis.call('HEXISTS', key.tasks, ARGV[i])
end
return answer
