"""Twelve kinds of story: what the people in them want, do, see, say and find in the end.

Sentences are templates, separated by `` / ``. ``{x}`` names a participant (``.o`` object, ``.p``
possessive, ``.n`` never a pronoun), ``{s.p}`` refers back to the latest subject, ``[walk]`` is a
verb that agrees with that subject (``[be:s]``, ``[be:@x]``, ``[see:part]`` say otherwise), and
``<food>`` comes from the row drawn for the story. Participants: a and b (friends), ab (both),
c (a helper), m (family of a), x, y, z (things). ``acts`` are verb phrases of people, ``talk`` is
``question|answer``, ``plural`` is the probability that a thing comes in numbers.
"""

import re

ANIMALS = """
things: x=animal
plural: 0.35
places: farm / field / barn / garden / forest / park
rows:
  x=dog|food=bones|noise=bark|does=[run] after the ball|hide=behind the barn /
  x=cat|food=fish|noise=purr|does=[sleep] on the warm chair|hide=under the bed /
  x=horse|food=hay|noise=snort|does=[run] across the field|hide=behind the trees /
  x=cow|food=grass|noise=call|does=[stand] near the gate|hide=behind the hill /
  x=sheep|food=grass|noise=call|does=[graze] on the hill|hide=between the rocks /
  x=bird|food=seeds|noise=sing|does=[fly] over the trees|hide=in the tall grass /
  x=duck|food=bread|noise=quack|does=[swim] across the pond|hide=under the bridge /
  x=rabbit|food=carrots|noise=squeak|does=[hop] through the grass|hide=under the bush /
  x=mouse|food=cheese|noise=squeak|does=[run] along the wall|hide=behind the shelf /
  x=goat|food=leaves|noise=call|does=[jump] over the fence|hide=between the rocks /
  x=pig|food=apples|noise=grunt|does=[roll] in the mud|hide=behind the barn /
  x=hen|food=seeds|noise=cluck|does=[lay] eggs in the straw|hide=under the wagon /
  x=fox|food=berries|noise=bark|does=[run] through the forest|hide=behind the trees /
  x=frog|food=flies|noise=croak|does=[jump] into the pond|hide=under the leaves /
  x=owl|food=mice|noise=hoot|does=[fly] through the night|hide=in the old tower
start: {a} [have] {x.o} / one day {a} [find] {x.o} <at>, and {x} [be] cold and hungry / {x} [live]
  <at> near the gate / {a} [see] {x.o} <at>
acts: [feed] {x.o} with <food> / [give] <food> to {x.o} / [bring] fresh water for {x.o} / [call]
  {x.o} / [sit] down beside {x.o} / [build] a warm bed for {x.o} / [follow] {x.o} across the field
  / [play] with {x.o} / [brush] {x.o}
scenes: {x} [<noise>] and <does> / {x} [eat] <food> and [drink] water / {x} [like] <food> more
  than anything / {x} <does> / {x} [look] at {a.o} with big eyes
trouble: one morning {x} [be] gone / {x} [run] away and [hide] <hide> / a big storm [come:s], and
  {x.f} [be] afraid / {x} [be] sick and [do] not eat the <food>
fix: {a} [find] {x.o} <hide> / {c} [open] the gate and [bring] {x.o} home / {a} [call] softly, and
  {x} [come] out of the dark / {x} [hear] {a.o} and [come] back at once
talk: Where [be:@x] {x}?|I think {x} [hide] <hide>. / What [do:@x] {x} eat?|{x} [eat] <food>. /
  Can {x} sleep in the house?|No, animals sleep in the barn. / [be:@x] {x} afraid?|Yes, but {x}
  [know] us now. / Do animals have feelings?|Yes, animals are happy when people are kind.
end: {x} [<noise>] and [fall] asleep / from that day on, {x} [follow] {a.o} everywhere / {a}
  [give] <food> to {x.o} and [close] the gate / {x} never [run] away again
"""

FOOD = """
things: x=dish / y=fruit / z=kitchenware
plural: 0.15
places: kitchen / house / farm / market
rows:
  x=soup|with=onions and carrots|cook=[stir] the pot /
  x=bread|with=flour and salt|cook=[bake] the bread /
  x=rice|with=beans and onions|cook=[boil] the rice /
  x=stew|with=meat and potatoes|cook=[stir] the pot /
  x=cake|with=flour, eggs and sugar|cook=[bake] the dough /
  x=pie|with=apples and sugar|cook=[bake] the dough /
  x=pancake|with=milk, eggs and flour|cook=[turn] the pan /
  x=porridge|with=milk and honey|cook=[stir] the pot
start: {a} [be] hungry / {a} and {m.o} [cook:p] dinner together / it [be:s] time for dinner <at> /
  {c} [teach] {a.o} how to cook
acts: [make] {x.o} with <with> / <cook> / [taste] {x.o} with a spoon / [wash] and [cut] {y.o} /
  [put] {y.o} into {z.o} / [fill] {z.o} with milk / [eat] {y.o} / [set] the table for dinner /
  [buy] <with> at the market
scenes: {x} [smell] very good / {z} near the oven [be] hot / {y} [taste] sweet / the kitchen
  [smell:s] of bread and sugar / {x} [be] hot, so {a} [wait]
trouble: there [be:s] no salt in the house / {z} [fall] from the table and [break] / the fire
  [be:s] too hot, and the food [burn:s] / nobody [can:s] find the sugar
fix: {c} [bring] a bag of flour and some sugar / {m} [help] and [cook] the meal again / {a}
  [clean] the kitchen and [start] again / {a} [wash] {z.o} and [fill] {z.o} again
talk: What do we need?|We need <with>. / [be:@x] {x} ready?|Not yet, {x} [need] more time. / Are
  you hungry?|Yes, I can eat three plates. / Can I taste {x.o}?|Yes, but {x} [be] hot. / Do you
  like {y.o}?|Yes, {y} [be] sweet and fresh.
end: {ab} [eat] {x.o} and [be] happy / then everybody [sit:s] down at the table and [eat:s] / soon
  the plates [be:p] empty / {m} [taste] {x.o} and [smile]
"""

TOOLS = """
things: x=tool / y=furniture
plural: 0.2
places: workshop / barn / house / garden / shop
rows:
  x=hammer|use=[hit] the nails into the wood|job=[fix] the fence|done=the fence /
  x=saw|use=[cut] the boards|job=[build] a table|done=the table /
  x=broom|use=[sweep] the floor|job=[clean] the workshop|done=the workshop /
  x=shovel|use=[dig] a deep hole|job=[plant] a tree|done=the garden /
  x=ladder|use=[climb] up to the roof|job=[fix] the roof|done=the roof /
  x=brush|use=[paint] the boards white|job=[paint] the door|done=the door /
  x=rope|use=[tie] the boat to the post|job=[save] the boat|done=the boat /
  x=needle|use=[sew] the cloth|job=[mend] the shirt|done=the shirt /
  x=ax|use=[split] the logs|job=[make] a fire|done=the fire /
  x=key|use=[open] the lock|job=[open] the gate|done=the gate /
  x=bucket|use=[carry] water from the well|job=[water] the garden|done=the garden /
  x=knife|use=[cut] the string|job=[open] the box|done=the box
start: {a} [want] to <job:base> / {a} [have] a lot of work <at> / {c} [ask] {a.o} to <job:base> /
  {y} <at> [be] broken
acts: [take] {x.o} and <use> / [use] {x.o} to <use:base> / <use> / [carry] {x.o} to <place> /
  [clean] {x.o} and [put] {x.o} on the shelf / [repair] {y.o} / [hold] {x.o} with both hands /
  [look] for {x.o}
scenes: {x} [be] heavy, but {a} [be] strong / {x} [hang] on the wall / {x} on the bench [be]
  useful / a good worker [know:s] the tools well / {x} [lie] on the floor of the workshop
trouble: {x} [break] / {a} [can] not find {x.o} / {x} [be] too old, and the work [be:s] too hard /
  {a} [lose] {x.o} on the way
fix: {c} [bring] {x.o} and <use> / {c} [show] {a.o} how to <use:base> / {a} [find] {x.o} behind
  the door / {ab} <job> together
talk: Where [be:@x] {x}?|Look, {x} [be] on the shelf. / What do we need?|We need {x.o} to
  <use:base>. / Can you <job:base>?|Yes, but first I must find {x.o}. / Who will <job:base>?|I
  will <use:base>, and you will help me. / [be:@x] {x} too heavy for you?|No, I am strong.
end: after that, <done> [look:s] like new / {a} [put] {x.o} back on the shelf / the work [be:s]
  done, and {ab} [rest] / {c} [look] at <done> and [smile]
"""

WEATHER = """
things: x=clothing / y=building
plural: 0.3
places: village / town / field / mountain / beach / street
rows:
  sky=the rain [fall:s] all day|effect=the streets [be:p] wet|word=rain|play=[jump] over the
    puddles|help=[open] a big umbrella /
  sky=snow [fall:s] from the gray sky|effect=the roofs [be:p] white|word=snow|play=[build] a
    snowman|help=[clear] the snow from the road /
  sky=the wind [blow:s] over the hills|effect=the leaves [fly:p] through the
    air|word=wind|play=[run] with the wind|help=[close] all the windows /
  sky=the thunder [roll:s] over the valley|effect=the sky [be:s] dark|word=thunder|play=[count] the
    seconds after the lightning|help=[light] a candle /
  sky=the sun [shine:s] all day|effect=the ground [be:s] hot and dry|word=sun|play=[swim] in the
    lake|help=[rest] in the shade /
  sky=thick fog [lie:s] over the river|effect=nobody [can:s] see the road|word=fog|play=[whistle]
    in the fog|help=[light] a lamp /
  sky=the air [be:s] icy|effect=the lake [freeze:s]|word=ice|play=[dance] on the ice|help=[make] a
    warm fire
start: <sky>, and <effect> / {a} [look] out of the window, and <sky> / that day the weather
  [change:s] / <sky> when {a} [wake] up
acts: <play> / <help> / [put] on {x.o} / [go] out into the <word> / [watch] the clouds over the
  hills / [run] into {y.o} / [talk] about the <word> / [stay] inside because of the <word>
scenes: <sky> / <effect> / the clouds over the hill [be:p] dark / the trees beside the road
  [move:p] in the wind / {x} [be] wet
trouble: the <word> [become:s] stronger, and {a} [be] afraid / {a} [lose] the way in the <word> /
  {ab} [can] not go home because of the <word> / {x} [be] wet, and {a} [be] cold
fix: {c} [open] the door of {y.n} and [let] {ab.o} in / {ab} [find] {y.o} and [wait] there / {m}
  [come] and <help> / {a} [see] a light and [walk] to {y.o}
talk: What is the weather like?|There is a lot of <word> today. / Are you cold?|Yes, I need {x.o}. /
  When will the <word> end?|Tomorrow the sky will be clear. / Shall we go home?|No, we must wait
  for better weather. / Are you afraid of the <word>?|No, I like the <word>.
end: in the end the <word> [be:s] over, and the sky [be:s] clear / the clouds [go:p] away, and the
  stars [come:p] out / {ab} [sit] by the fire and [drink] hot tea / then a rainbow [stand:s] over
  the valley
"""

VEHICLES = """
things: x=vehicle
plural: 0.2
places: street / station / harbor / town / farm
rows:
  x=car|go=[drive]|way=along the road|part=wheels|who=driver /
  x=bus|go=[ride]|way=through the town|part=doors|who=driver /
  x=train|go=[ride]|way=through the tunnel|part=wheels|who=driver /
  x=truck|go=[drive]|way=over the bridge|part=wheels|who=driver /
  x=bicycle|go=[ride]|way=down the hill|part=wheels|who=rider /
  x=boat|go=[row]|way=across the lake|part=sails|who=sailor /
  x=ship|go=[sail]|way=over the sea|part=sails|who=captain /
  x=tractor|go=[drive]|way=across the field|part=wheels|who=farmer /
  x=wagon|go=[pull]|way=up the hill|part=wheels|who=farmer /
  x=plane|go=[fly]|way=above the clouds|part=engines|who=pilot
start: {x} [stand] <at> / {a} [want] to travel to <far> / {c} [have] {x.o} / {ab} [wait] <at>
  because {ab} [want] to travel
acts: <go> {x.o} <way> / [wash] {x.o} / [travel] to <far> / [wait] for {x.o} / [carry] the bags to
  {x.o} / [buy] two tickets / [look] at the <part> of {x.n} / [repair] the <part> / [wave] to the
  <who>
scenes: {x} [move] <way> / the <part> of {x.n} [turn:p] faster and faster / the <who> [know:s] the
  way to <far> / {x} [be] faster than a horse / the road to <far> [be:s] long
trouble: {x} [stop] in the middle of the way / the <part> of {x.n} [break:p] / {x} [be] late, and
  {a} [wait] a long time / the <who> [lose:s] the way to <far>
fix: the <who> [repair:s] the <part> / {c} [come] and [repair] the <part> / {a} [read] the map and
  [find] the way to <far> / {ab} [push] {x.o} until the <part> [turn:p] again
talk: How far is <far>?|It is a long way to <far>. / Is this the way to <far>?|Yes, <far> is
  behind the hill. / Who will <go:base> {x.o}?|The <who> will do that. / Why [do:@x] {x} not
  move?|The <part> are broken. / When will we be in <far>?|We will be in <far> tomorrow.
end: at last {ab} [arrive] in <far> / {x} [stop] in front of the house in <far> / it [be:s] dark
  when {ab} [reach] <far> / {a} [thank] the <who> and [wave]
"""

MUSIC = """
things: x=instrument
plural: 0
places: hall / school / house / church / park
rows:
  x=drum|play=[beat] the drum|sound=boom, boom, boom|who=drummer /
  x=guitar|play=[play] the guitar|sound=la, la, la|who=singer /
  x=piano|play=[play] the piano|sound=la, la, la|who=teacher /
  x=flute|play=[play] the flute|sound=lu, lu, lu|who=dancer /
  x=violin|play=[play] the violin|sound=lu, lu, lu|who=singer /
  x=horn|play=[blow] the horn|sound=tu, tu, tu|who=hunter /
  x=bell|play=[ring] the bell|sound=ding, dong, ding|who=teacher /
  x=trumpet|play=[blow] the trumpet|sound=tu, tu, tu|who=dancer /
  x=harp|play=[play] the harp|sound=lu, lu, lu|who=singer
start: {a} [love] music / {m} [give] {x.o} to {a.o} / {a} [hear] music <at> / there [be:s] a
  concert <at>
acts: <play> / [sing] an old song / [practice] every day / [learn] a new song / [listen] to the
  music / [dance] to the music / [write] a song about <song> / [play] {x.o} for {other.o}
scenes: {x} [sound] beautiful / the songs of the <who> [be:p] slow and sad / the <who> [sing:s] a
  song about <song> / the notes of the song [be:p] high and clear / the people in the hall
  [listen:p] quietly
trouble: {a} [forget] the words of the song / {x} [fall] down and [break] / {a} [be] afraid to
  sing in front of the people / the song [be:s] too fast for {a.o}
fix: {c} [repair] {x.o} with a little glue / {b} [begin] to sing, and {a} [remember] the words /
  {c} [show] {a.o} how to <play:base> / {a} [practice] until the song [be:s] perfect
talk: What is the song about?|It is a song about <song>. / How does it sound?|It sounds like this:
  <sound>. / Can you <play:base>?|Yes, I practice every day. / Do you know the song?|Yes, my
  mother sings it every evening. / Why do you stop?|I do not know the words of the song.
end: the people [clap:p] and [sing:p] along / {a} <play>, and everybody [dance:s] / in the evening
  {ab} [sing] the song about <song> again / the music [fill:s] the whole house
"""

BODY = """
things: y=clothing
plural: 0.3
places: hospital / house / school / park
rows:
  x=knee|how=[fall] from the swing|care=[wash] the knee|can=walk /
  x=hand|how=[touch] the hot pan|care=[hold] the hand in cold water|can=write /
  x=arm|how=[fall] from the tree|care=[wrap] the arm in a cloth|can=throw a ball /
  x=leg|how=[fall] on the ice|care=[wrap] the leg in a cloth|can=run /
  x=foot|how=[step] on a nail|care=[clean] the foot|can=walk /
  x=tooth|how=[bite] on a stone|care=[look] at the tooth|can=eat /
  x=ear|how=[stand] in the cold wind|care=[warm] the ear|can=hear /
  x=eye|how=[look] into the sun|care=[wash] the eye|can=see /
  x=finger|how=[cut] the bread too fast|care=[wrap] the finger in a cloth|can=play the piano /
  x=nose|how=[run] into the door|care=[hold] ice on the nose|can=smell
start: {a} <how> and [hurt] {s.p} <x> / {a} [feel] sick and [stay] in bed / {a} [hurt] {s.p} <x>
  when {a} <how> / that day the <x> of {a.n} [hurt:s]
acts: [touch] {s.p} <x> / [go] to the doctor / [lie] down and [rest] / [close] {s.p} eyes /
  [drink] hot tea with honey / [wash] {s.p} hands and face / [put] on {y.o} / [show] {s.p} <x> to
  {m.o}
scenes: the doctor <care> / the doctor [look:s] at the <x> and [ask:s] many questions / we see
  with our eyes and hear with our ears / the heart of {a.n} [beat:s] fast / the <x> [be:s] red and
  warm
trouble: the <x> [hurt:s] more and more / {a} [can] not <can> / {a} [cry] because the <x> [hurt:s]
  / {a} [can] not sleep that night
fix: the doctor <care>, and soon it [be:s] better / {m} <care> and [sing] a song / {c} [bring] a
  clean cloth and <care> / {a} [rest] for a week and [get] better
talk: Where does it hurt?|My <x> hurts. / What happened to your <x>?|I hurt my <x> yesterday. /
  Can you <can>?|No, my <x> hurts too much. / Must I stay in bed?|Yes, your <x> needs rest. / Will
  my <x> be better?|Yes, soon you can <can> again.
end: after a week {a} [can] <can> again / soon the <x> [be:s] better / {a} [thank] the doctor and
  [go] home / {a} [smile] because the <x> [do:s] not hurt any more
"""

PLACES = """
things: x=building / y=nature / z=small
plural: 0
places: town / village / castle / forest / mountain / beach
rows:
  x=castle|see=the high walls|who=guard /
  x=tower|see=the whole valley|who=guard /
  x=mill|see=the big wheel|who=farmer /
  x=bridge|see=the boats on the water|who=sailor /
  x=station|see=the long trains|who=driver /
  x=church|see=the colored windows|who=singer /
  x=barn|see=the straw and the old wagons|who=farmer /
  x=school|see=the bright rooms|who=teacher
start: {a} [want] to see {x.o} behind the hill / {x} [stand] on a hill near <far> / {ab} [go] for
  a long walk from <far> to the mountain / nobody [live:s] in {x.o} near <far>
acts: [walk] to {x.o} / [look] at <see> / [cross] {y.o} / [follow] the path through the forest /
  [climb] to the top of the hill / [open] the door of {x.n} / [read] the map / [find] {z.o} on the
  ground / [ask] the <who> about {x.o}
scenes: the road from <far> to {x.o} [be:s] long / {y} [lie] between <far> and the mountains / the
  windows of {x.n} [be:p] dark / the <who> [know:s] every stone of {x.n} / the houses on the other
  side of the river [be:p] small
trouble: the way [be:s] long, and {ab} [be] tired / {ab} [lose] the way in the forest / the door
  of {x.n} [be:s] closed / it [become:s] dark, and {a} [can] not see the path
fix: the <who> [open:s] the door of {x.n} with a key / {c} [know] the way and [walk] in front /
  {a} [see] the lights of <far> in the valley / {ab} [follow] the river back to <far>
talk: Where are we?|We are near <far>. / What can you see?|I can see <see>. / Who lives in
  {x.o}?|Only the <who> lives there. / Which way must we go?|We must cross {y.o}. / How old
  [be:@x] {x}?|The <who> says that nobody knows.
end: from the top {ab} [see] <see> / {ab} [walk] home to <far> / at last {ab} [stand] in front of
  {x.n} / {a} never [forget] the day near <far>
"""

CLOTHES = """
things: x=clothing / y=clothing
plural: 0.2
places: shop / market / town / house
rows:
  x=coat|on=over the shirt|of=wool|why=the wind [be:s] cold /
  x=hat|on=on the head|of=straw|why=the sun [be:s] hot /
  x=scarf|on=around the neck|of=wool|why=it [be:s] cold /
  x=glove|on=on the hands|of=leather|why=the snow [be:s] cold /
  x=sock|on=on the feet|of=wool|why=the floor [be:s] cold /
  x=shoe|on=on the feet|of=leather|why=the road [be:s] long /
  x=boot|on=on the feet|of=leather|why=the road [be:s] wet /
  x=dress|on=for the dance|of=silk|why=there [be:s] a dance /
  x=sweater|on=under the coat|of=wool|why=it [be:s] cold
start: {a} [need] {x.o} because <why> / {m} [make] {x.o} for {a.o} / {a} [get] {x.o} of <of> / {a}
  [see] {x.o} in the window of the shop
acts: [wear] {x.o} <on> / [put] on {x.o} / [wash] {y.o} / [hang] {y.o} on the line / [sew] a
  button on {x.o} / [buy] {y.o} <at> / [try] on {y.o} / [knit] a scarf of wool / [look] into the
  mirror
scenes: {x} [be] made of <of> / {x} [be] too big, but {a} [like] {x.o} / people wear warm clothes
  in winter / {y} on the line [be] dry / the buttons on {x.o} [shine:p] like stars
trouble: {a} [lose] {x.o} on the way home / {x} [be] dirty and wet / a button [fall:s] off, and
  {a} [can] not find it / {x} [be] too small for {a.o}
fix: {m} [mend] {x.o} with a needle / {b} [find] {x.o} under the bench / {c} [sell] {y.o} to {a.o} /
  {a} [wash] {x.o} and [hang] {x.o} in the sun
talk: [do:@x] {x} fit?|Yes, {x} [be] just right. / Where [be:@x] {x}?|I think {x} [be] under the
  bench. / What do you wear on a cold day?|I wear {x.o}. / Who made {x.o}?|My grandmother made {x.o}
  of <of>. / Is your coat warm?|Yes, it is made of wool.
end: {a} [wear] {x.o} every day / {x} [keep] {a.o} warm / {a} [put] {x.o} into the box and [close]
  it / everybody [like:s] {x.o}
"""

PLANTS = """
things: x=plant / y=tool
plural: 0.4
places: garden / farm / field / park
rows:
  x=tree|grow=the branches|color=green|y=shovel /
  x=rose|grow=the flowers|color=red|y=bucket /
  x=flower|grow=the leaves|color=yellow|y=bucket /
  x=bush|grow=the berries|color=dark|y=shovel /
  x=bean|grow=the leaves|color=green|y=bucket /
  x=vine|grow=the grapes|color=blue|y=ladder /
  x=pumpkin|grow=the leaves|color=yellow|y=shovel
start: {x} [grow] <at> / {a} [plant] {x.o} <at> / {c} [give] a bag of seeds to {a.o} / {a} [work]
  <at> every day
acts: [water] {x.o} / [dig] in the dark earth / [plant] the seeds in a row / [pick] the ripe fruit
  / [sit] down under the old tree / [use] {y.o} in the garden / [pull] the weeds out of the ground
  / [watch] {x.o} grow / [carry] water to {x.o}
scenes: <grow> [be:p] <color> / {x} [need] water and light / {x} [grow] taller every week / <grow>
  of {x.n} [move:p] in the wind / the roots of {x.n} [be:p] deep in the earth
trouble: it [do:s] not rain, and the ground [become:s] dry / the goats [eat:p] <grow> of {x.n} /
  <grow> [become:p] brown and dry / in the night the wind [break:s] <grow>
fix: {a} [bring] water from the river every evening / {c} [build] a fence around the garden / the
  rain [come:s], and <grow> [be:p] <color> again / {a} [tie] {x.o} to a strong stick
talk: Why [be:@x] {x} so dry?|The ground needs water. / When will {x} grow?|Plants grow when they
  have light and water. / What color are <grow>?|They are <color>. / How often must I water
  {x.o}?|You must water {x.o} every day. / May I pick the fruit?|Wait until the fruit is ripe.
end: soon <grow> [be:p] <color> again / in the end {x} [be] taller than {a.o} / {ab} [pick] a full
  basket of fruit / people [come:p] from <far> to see {x.o}
"""

GAMES = """
things: x=toy
plural: 0
places: park / school / garden / beach / street
rows:
  x=ball|play=[kick] the ball|away=into the river|team=players /
  x=ball|play=[throw] the ball|away=over the wall|team=players /
  x=kite|play=[fly] the kite|away=into a tree|team=children /
  x=puzzle|play=[finish] the puzzle|away=under the table|team=children /
  x=swing|play=[push] the swing|away=behind the house|team=children /
  x=top|play=[turn] the top|away=under the table|team=children /
  x=card|play=[deal] the cards|away=on the floor|team=players
start: {ab} [play] a game <at> / {a} [get] {x.o} from {m.o} / it [be:s] the day of the big game /
  {a} [have] {x.o}, and {b} [want] to play
acts: <play> / [win] the first game / [run] as fast as the wind / [count] to ten and [hide] /
  [wait] for {s.p} turn / [play] with {x.o} / [jump] higher than {other.o} / [teach] {other.o} a
  new game / [laugh] out loud
scenes: the <team> on the grass [be:p] fast / {x} [fly] through the air / the rules of the game
  [be:p] easy / the winner of the games [get:s] a prize / the children near the fence [shout:p]
  and [laugh:p]
trouble: {x} [fall] <away> / {ab} both [want] {x.o} / {b} [lose] the game and [be] angry / {a}
  [fall] down in the middle of the game
fix: {a} [say] sorry, and {ab} [start] again / {c} [find] {x.o} and [bring] {x.o} back / {ab}
  [share] {x.o} / {b} [help] {a.o}, and the game [go:s] on
talk: May I play too?|Yes, it is your turn now. / Who won the game?|Nobody won, but everybody had
  fun. / Where [be:@x] {x}?|I saw {x.o} fall <away>. / Can you <play:base>?|Yes, I can <play:base>
  all day. / Are you ready?|I am ready. One, two, three, go!
end: {ab} [laugh] and [shake] hands / at the end of the day nobody [know:s] the winner /
  {a} [win] the game and [share] the prize / the <team> [go:p] home and [be:p] friends again
"""

SCHOOL = """
things: x=reading / y=small
plural: 0
places: school / library / house
rows:
  x=book|do=[read] the book|about=a king and a bear|part=pages|y=candle /
  x=letter|do=[read] the letter|about=a long journey|part=words|y=coin /
  x=map|do=[study] the map|about=an island in the sea|part=lines|y=key /
  x=story|do=[write] the story|about=a fox and a moon|part=words|y=pencil /
  x=poem|do=[learn] the poem|about=the sea at night|part=words|y=candle /
  x=picture|do=[draw] the picture|about=a house on a hill|part=colors|y=pencil
start: {a} [find] {x.o} <at> / the teacher [give:s] {x.o} to {a.o} / {a} [like] stories and books
  / {a} and {m.o} [read:p] together
acts: <do> / [learn] to read / [write] a letter to {m.o} / [ask] the teacher a question / [open]
  {x.o} / [turn] the page / [find] {y.o} in {x.o} / [tell] {other.o} about {x.o} / [put] {x.o}
  into the bag
scenes: the <part> of {x.n} [be:p] small and hard to read / {x} [tell] about <about> / the books
  on the shelf [be:p] old / the teacher of the children [read:s] aloud / the pencils in the box
  [be:p] new
trouble: {a} [can] not read the <part> / {a} [lose] {x.o} on the way to school / the last page
  [be:s] gone / the question [be:s] too hard for {a.o}
fix: {b} [sit] down with {a.o} and [read] the <part> / the teacher [explain:s] the <part> / {c}
  [find] {x.o} and [bring] {x.o} to school / {a} [read] it again and again until {a} [know] it
talk: What is it about?|It is about <about>. / Can you read the <part>?|No, the <part> are too
  small. / Who wrote {x.o}?|Nobody knows who wrote {x.o}. / What is the answer?|The answer is
  <number>. / May I read {x.o}?|Yes, but be careful with {x.o}.
end: {a} [close] {x.o} and [dream] about <about> / now {a} [can] read every word / the teacher
  [smile:s] and [say:s] that {a} [be] right / {a} [put] {x.o} back on the shelf
"""

_BLOCKS = {
    "animals": ANIMALS,
    "food": FOOD,
    "tools": TOOLS,
    "weather": WEATHER,
    "vehicles": VEHICLES,
    "music": MUSIC,
    "body": BODY,
    "places": PLACES,
    "clothes": CLOTHES,
    "plants": PLANTS,
    "games": GAMES,
    "school": SCHOOL,
}


def _parse(block):
    theme = {}
    for line in re.split(r"\n(?=\w)", block.strip()):
        key, _, value = line.partition(":")
        theme[key] = [" ".join(item.split()) for item in value.split(" /")]
    theme["plural"] = float(theme["plural"][0])
    theme["things"] = dict(item.split("=") for item in theme["things"])
    theme["rows"] = [dict(cell.split("=") for cell in row.split("|")) for row in theme["rows"]]
    theme["talk"] = [tuple(pair.split("|")) for pair in theme["talk"]]
    return theme


THEMES = {name: _parse(block) for name, block in _BLOCKS.items()}
"""theme -> its places, rows and templates."""
