"""Words of the tiny tokenizer beyond the embedded world's; append only."""

# Open text (captions, chat), most useful first; each is a piece with a leading
# space. Append only: ids follow this order, after the world's words.
OPEN_WORDS = """
user assistant emoji image picture the a an of in on at to and is are was it
this that with for from by as not no yes or be do does did what which how many
much where who when why there here its one two three four five six seven eight
nine ten style show shows category belong belongs skin tone face medium light
dark twemoji noto redraw draw make change replace remove add move put turn
objects object smileys emotion animals nature food drink activities travel
places symbols flags people body hand hands sign heart smiling eyes eye open
mouth pointing index white black cat dog ball finger fingers up down left right
closed raised middle facing tree card glass ice baby box monkey book man woman
person boy girl child flag file camera musical speaker hat head lock ring love
back nose stick hot cold computer money party bell balloon red green blue
yellow orange purple pink brown grey gray key flower cake bear pig pen ribbon
bird fish horse cow mouse rabbit sun moon star cloud rain snow water fire
mountain sea house car bus train bicycle plane boat clock phone apple banana
bread cheese pizza rice coffee tea beer wine square circle triangle line large
small big little old new young long short high low high full empty first last
next same other both all some every more most less than into over under between
above below behind front near side top bottom center corner background color
colour shape size number text word letter has have had will can could would
should may you your he she they we i me my his her their our be been being but
if then so because about after before also only just very good bad best great
day night time year world life work home city street people thing way place
part hair dress shirt shoe bag table chair door window wall road sky grass
photo drawing painting chart bar value answer question describe say tell write
read see look find give take get go come use like want need know think
""".split()
# Fragments without a space: what is left of a word that is not in the list.
FRAGMENTS = """
th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha
as ou io le ve co me de hi ri ro ic ne ea ra ce li ch ll be ma si om ur ca el
ta la ns di fo ho pe ec pr no ct us ac ot il tr ly nc et ut ss so rs un lo wa
ge ie wh ee wi em ad ol rt po we na ul ni ts mo ow pa im mi ai sh ir su id os
iv ia am fi ci vi pl ig tu ev ld ry mp fe bl ab gh ty op wo sa ay ex ke fr oo
av ag if ap gr od bo sp rd do uc bu ei ov by rm ep tt oc fa ef cu rn sc gi da
yo cr cl du ga qu ue ff ba ey ls va um pp ua up lu go ht ru ug ds lt pi rc rr
eg au ck ew mu br bi pt ak pu ui rg ib tl ny ki rk ys ob mm fu ph og ms ye ud
mb ip ub oi rl gu dr hr cc tw ft wn nu af hu nn eo vo rv nf xp gn sm fl iz ok
nl my gl aw ju oa eq sy sl ps jo lf nv je nk kn gs dy hy ze ks xt bs ik dd pt
ing ion ent ter ati ers ess ate ver all tio est ist ous nce ment ness able ful
less ical ally ight ound ough tion self ward like time
""".split()
