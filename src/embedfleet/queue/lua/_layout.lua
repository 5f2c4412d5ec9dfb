-- Fragment: agrees with a caller on the layout of the stage, which says in which shard a task belongs.
--
-- The field `layout` of `meta` is the newest layout that this shard has heard of (`shards.py`). `layouts` counts
-- how often it took over a newer one, and each task keeps this number from when it was offered. A task with a
-- lower one may be a stray, and `strays` counts these.

local function version_of(layout)
  return tonumber(string.match(layout, '^%d+')) or 0
end

local function layout_now()
  return redis.call('HGET', key.meta, 'layout') or ''
end

-- How often the shard took over a layout.
local function layouts_heard()
  return tonumber(redis.call('HGET', key.meta, 'layouts') or 0)
end

-- Counts a task less that was offered when the shard had taken over `layouts` layouts, if it was a stray.
local function forget_stray(layouts)
  if layouts < layouts_heard() then
    redis.call('HINCRBY', key.meta, 'strays', -1)
  end
end

-- Whether no task is a stray any more by this layout: then it has no earlier numbers.
local function is_settled(layout)
  return string.match(layout, '^%d+ %d+ %d+$') ~= nil
end

-- Takes the layout over if it is newer. Returns whether the caller's layout is the newest, and the newest.
-- Of one version, the settled one is the newer; what is offered by either is offered to the same shards.
local function agree_on(layout)
  local held = layout_now()
  if version_of(layout) > version_of(held) then
    redis.call('HSET', key.meta, 'layout', layout, 'strays', redis.call('HLEN', key.tasks))
    redis.call('HINCRBY', key.meta, 'layouts', 1)
    held = layout
  elseif version_of(layout) == version_of(held) and is_settled(layout) and not is_settled(held) then
    redis.call('HSET', key.meta, 'layout', layout)
    held = layout
  end
  return version_of(layout) == version_of(held), held
end
